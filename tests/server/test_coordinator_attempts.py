"""What a strategy is told of attempts that came short: the same if the coordinator was killed in between."""

import pytest
from fake_fleet import FakeFleet, FakeRun

from fedpeft.errors import RoundError
from fedpeft.journal import EventKind
from fedpeft.strategies import FedAvg


class Told(FedAvg):
    """Notes what it is told, and when."""

    def __init__(self):
        super().__init__()
        self.heard = []

    def came_short(self, cohorts):
        self.heard.append(cohorts)

    def begin(self, theta):
        super().begin(theta)
        self.heard.append("begin")


def play(folder, broken):
    """A run of two rounds with two attempts each; broken(round, attempt): all replies are rubbish."""
    fleet = FakeFleet(5)
    for client in fleet.clients:
        client.train = lambda frame, own=client: b"no" if broken(frame.round, frame.attempt) else own.honest(frame)
    strategy = Told()
    run = FakeRun(fleet, folder, strategy, round={"ask": 2, "attempts": 2, "deadline_s": 10.0}, run__rounds=2)
    try:
        run.run()
    finally:
        cohorts = {(e.round, e.attempt): e.payload["cohort"] for e in run.journal.events(EventKind.ROUND_OPENED)}
        run.journal.close()
    return strategy.heard, cohorts


def test_cohorts_of_short_attempts_are_told_before_the_next_one_begins(tmp_path):
    heard, cohorts = play(tmp_path, lambda number, attempt: (number, attempt) == (1, 1))
    assert heard == [[], "begin", [cohorts[1, 1]], "begin", [], "begin"]


def test_they_are_told_after_a_restart_too(tmp_path):
    with pytest.raises(RoundError, match="round 2 got 0 usable replies"):
        play(tmp_path, lambda number, attempt: number == 2)
    heard, cohorts = play(tmp_path, lambda number, attempt: False)
    assert heard == [[cohorts[2, 1], cohorts[2, 2]], "begin"]
