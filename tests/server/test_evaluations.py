"""Evaluations of a run: on the test set, on a panel of clients; the best round, and the end before the last one."""

import numpy as np
import pytest
from fake_fleet import FakeFleet, FakeRun, answer, refuse

from fedpeft.evaluation import Evaluation
from fedpeft.journal import EventKind, Journal
from fedpeft.server.best import read_best
from fedpeft.server.client_evaluations import panel
from fedpeft.server.watch import verdict_on
from fedpeft.types import ClientId
from fedpeft.wire.frame import FrameKind


def flat(**tables):
    """Tables of a run file as the options of a `FakeRun`."""
    return {f"{table}__{key}": value for table, keys in tables.items() for key, value in keys.items()}


def fake_run(fleet, folder, **tables):
    return FakeRun(fleet, folder, **flat(**{"evaluation": {"clients": True}, **tables}))


class Graded(FakeRun):
    """A run whose adapter of round n is worth `grades[n]` on the test set; remembers what was asked of it."""

    def __init__(self, folder, grades, **evaluation):
        table = {"clients": False, **evaluation}
        super().__init__(FakeFleet(4), folder, **flat(run={"rounds": len(grades) - 1}, evaluation=table))
        self.judged = []
        self.coordinator.evaluations.evaluate = self.judge
        self.grades = grades

    def judge(self, theta, whole):
        number = self.journal.last_commit().round
        self.judged.append((number, whole))
        return Evaluation(self.grades[number], 1.0, 100, {"accuracy": self.grades[number], "rouge_l": 0.25})

    def rounds(self, kind):
        return [event.round for event in self.journal.events(kind)]


def committed(run):
    return run.journal.last_commit().round


def test_metrics_reach_the_journal_and_what_is_not_finite_does_not(tmp_path):
    run = FakeRun(FakeFleet(2), tmp_path)
    run.coordinator.evaluations.evaluate = lambda theta, whole: Evaluation(
        0.5, float("inf"), 4, {"accuracy": 0.5, "rouge_l": 0.25, "perplexity": float("inf")}
    )
    run.run()
    assert run.told(EventKind.EVALUATED, "accuracy", "loss", "metrics", "whole")[0][2:] == (
        0.5,
        None,
        {"rouge_l": 0.25},
        True,
    )


# Which round is the best, and when the run ends


def test_the_best_round_is_the_first_of_the_best():
    history = {0: {"accuracy": 0.1}, 1: {"accuracy": 0.7}, 2: {}, 3: {"accuracy": 0.7}}
    verdict = verdict_on(history)
    assert (verdict.best_round, verdict.best, verdict.since) == (1, 0.7, 2)


def test_a_metric_that_is_better_when_smaller():
    history = {0: {"perplexity": 9.0, "loss": 1.0}, 1: {"perplexity": 4.0, "loss": 2.0}, 2: {"perplexity": 5.0}}
    assert verdict_on(history, name="perplexity", larger_is_better=False).best_round == 1
    assert verdict_on({0: {"loss": 1.0}, 1: {"loss": 0.5}}).best_round == 1


def test_small_improvements_add_up_to_one():
    history = {number: {"accuracy": 0.5 + 0.004 * number} for number in range(5)}
    verdict = verdict_on(history, min_delta=0.01)
    assert (verdict.best_round, verdict.since) == (4, 1)  # 0.512 is more than 0.01 over 0.5


def test_the_run_ends_when_nothing_has_improved_for_long_enough(tmp_path):
    run = Graded(tmp_path, [0.1, 0.5, 0.6, 0.55, 0.6, 0.9, 0.9], patience=2)
    theta = run.run()
    assert committed(run) == 4
    ((number, _, reason, best),) = run.told(EventKind.STOPPED, "reason", "best_round")
    assert (number, best) == (4, 2)
    assert reason == "accuracy has not improved in 2 evaluations in a row, the best was 0.6 in round 2"
    kept = read_best(tmp_path)
    assert kept[0] == 2
    assert not np.array_equal(kept[1], theta)
    assert [event.round for event in run.journal.events(EventKind.EVALUATED) if event.payload["split"] == "best"] == [2]


def test_the_run_ends_with_the_first_round_that_is_good_enough(tmp_path):
    run = Graded(tmp_path, [0.9, 0.5, 0.79, 0.8, 0.95, 0.95], target=0.8)  # an untrained adapter is no reason to end
    run.run()
    assert committed(run) == 3
    ((number, _, reason, best),) = run.told(EventKind.STOPPED, "reason", "best_round")
    assert (number, best, reason) == (3, 0, "accuracy has reached 0.8, and evaluation.target = 0.8")
    assert read_best(tmp_path) is None  # nobody asked for it
    assert [event.round for event in run.journal.events(EventKind.EVALUATED)] == [0, 1, 2, 3]


def test_a_loss_is_good_enough_when_it_is_small(tmp_path):
    run = Graded(tmp_path, [0.1, 0.2, 0.3], target=0.5)
    run.coordinator.evaluations.evaluate = lambda theta, whole: Evaluation(
        None, [9.0, 0.4, 0.1][run.journal.last_commit().round], 100, {}
    )
    run.run()
    assert committed(run) == 1


def test_the_whole_test_set_must_confirm_what_a_sample_says(tmp_path):
    run = Graded(tmp_path, [0.1, 0.5, 0.5, 0.5, 0.5, 0.5], target=0.8, examples=3)
    sample, whole = [0.0, 0.5, 0.85, 0.85, 0.9, 0.9], [0.0, 0.5, 0.79, 0.81, 0.9, 0.9]

    def judge(theta, of_all):
        run.judged.append((number := run.journal.last_commit().round, of_all))
        return Evaluation((whole if of_all else sample)[number], 1.0, 100, {})

    run.coordinator.evaluations.evaluate = judge
    run.run()
    assert run.judged == [(0, True), (1, False), (2, False), (2, True), (3, False), (3, True)]
    assert run.told(EventKind.STOPPED, "reason")[0][2] == "accuracy has reached 0.81, and evaluation.target = 0.8"


@pytest.mark.parametrize("kill", range(1, 16))
@pytest.mark.parametrize("ends", [{"patience": 2}, {"target": 0.55}], ids=str)
def test_a_stopped_run_is_the_same_after_a_kill_at_any_event(tmp_path, kill, ends):
    grades, table = (
        [0.1, 0.6, 0.5, 0.55, 0.9, 0.9] if "patience" in ends else [0.1, 0.54, 0.5, 0.55, 0.5, 0.9],
        {**ends, "keep": "best", "clients": True, "clients_every": 1},
    )
    whole = Graded(tmp_path / "whole", grades, **table)
    expected = whole.run()

    class Killed(Exception):
        pass

    left = kill
    cut = Graded(tmp_path / "cut", grades, **table)

    def observe(event):
        nonlocal left
        left -= event.kind in (EventKind.COMMITTED, EventKind.EVALUATED, EventKind.CLIENTS_EVALUATED, EventKind.STOPPED)
        if left == 0:
            raise Killed

    cut.journal.subscribe(observe)
    try:
        cut.run()
    except Killed:
        cut.journal.close()
        cut = Graded(tmp_path / "cut", grades, **table)
        assert np.array_equal(cut.run(), expected)
    for kind in (EventKind.STOPPED, EventKind.EVALUATED, EventKind.CLIENTS_EVALUATED):
        told = [(event.round, event.payload) for event in cut.journal.events(kind)]
        assert told == [(event.round, event.payload) for event in whole.journal.events(kind)]
    assert read_best(tmp_path / "cut")[0] == read_best(tmp_path / "whole")[0] == (1 if "patience" in ends else 3)
    assert np.array_equal(read_best(tmp_path / "cut")[1], read_best(tmp_path / "whole")[1])
    again = Graded(tmp_path / "cut2", grades, **table)  # and a run that has stopped does not go on
    again.run()
    again.journal.close()
    once_more = Graded(tmp_path / "cut2", grades, **table)
    once_more.run()
    assert committed(once_more) == 3


def test_with_a_sample_the_watched_rounds_are_judged_on_it_and_the_ends_on_everything_too(tmp_path):
    run = Graded(tmp_path, [0.1, 0.5, 0.4, 0.3], keep="best", examples=10)
    run.run()
    assert run.judged == [(0, False), (0, True), (1, False), (2, False), (3, False), (3, True), (3, True)]
    plain = Graded(tmp_path / "plain", [0.1, 0.5, 0.4, 0.3], examples=10)
    plain.run()
    assert plain.judged == [(0, True), (1, False), (2, False), (3, True)]


# On the clients


def told_by(accuracy, *, weight=4.0, **more):
    return lambda frame: answer(
        frame, FrameKind.EVALUATION, weight=weight, metrics={"accuracy": accuracy, "loss": 1.0} | more
    )


def fleet_of(*accuracies):
    fleet = FakeFleet(len(accuracies))
    for client, accuracy in zip(fleet.clients, accuracies, strict=True):
        client.evaluate = told_by(accuracy)
    return fleet


def test_clients_evaluate_every_so_many_rounds_and_their_spread_is_recorded(tmp_path):
    fleet = fleet_of(0.1, 0.5, 0.9, 0.9)
    fleet["c03"].evaluate = told_by(0.9, weight=16.0, **{"constant.held_out": 0.75})
    run = fake_run(fleet, tmp_path, run={"rounds": 5}, evaluation={"clients": True, "clients_every": 2})
    run.run()
    found = {event.round: event.payload["clients"] for event in run.journal.events(EventKind.CLIENTS_EVALUATED)}
    assert list(found) == [0, 2, 4, 5]
    spread = found[2]["accuracy"]
    assert (spread["clients"], spread["examples"], spread["min"], spread["max"], spread["worst"]) == (
        4,
        28,
        0.1,
        0.9,
        0.1,
    )
    assert spread["mean"] == pytest.approx(0.6)
    assert spread["weighted"] == pytest.approx((4 * 0.1 + 4 * 0.5 + 4 * 0.9 + 16 * 0.9) / 28)
    assert found[2]["constant.held_out"]["mean"] == 0.75
    (told,) = {
        e.payload["constant"]["held_out"] for e in run.journal.events(EventKind.CLIENT_EVALUATED) if e.client == "c03"
    }
    assert told == 0.75


@pytest.mark.parametrize(
    ("metrics", "weight"),
    [
        ({"accuracy": 7.0}, 4.0),
        ({"exact_match": -0.5}, 4.0),
        ({"constant.train": 2.0}, 4.0),
        ({"loss": 1e308}, 100.0),
        ({"accuracy": 0.5, "constant.held_out": 0.5, "perplexity": -1e31}, 4.0),
        ({"accuracy": 0.5}, 1e300),
        ({"accuracy": 0.5}, 0.0),
    ],
    ids=str,
)
def test_what_cannot_be_is_no_answer(tmp_path, metrics, weight):
    """A share outside 0 to 1, a number that would carry a mean away, more examples than a client may claim."""
    fleet = fleet_of(0.5, 0.5)
    fleet["c00"].evaluate = lambda frame: answer(frame, FrameKind.EVALUATION, weight=weight, metrics=metrics)
    run = fake_run(fleet, tmp_path)
    run.run()
    assert {event.client for event in run.journal.events(EventKind.CLIENT_EVALUATED)} == {"c01"}


def test_a_run_that_has_such_an_answer_on_record_goes_on(tmp_path):
    """An earlier version recorded it, and died of the mean."""
    run = fake_run(fleet_of(0.5, 0.5), tmp_path)
    for client in ("c00", "c01"):
        payload = {"accuracy": 0.5, "loss": 1e308, "metrics": {}, "examples": 100}
        run.journal.record(EventKind.CLIENT_EVALUATED, round=0, client=ClientId(client), **payload)
    run.run()
    (found, *_) = [event.payload["clients"] for event in run.journal.events(EventKind.CLIENTS_EVALUATED)]
    assert (found["loss"]["clients"], found["loss"]["max"]) == (2, 1.0)


def test_a_client_that_has_lost_what_it_held_is_given_everything_the_next_time(tmp_path):
    fleet = FakeFleet(3)
    bases = []

    def judge(frame):
        bases.append((frame.round, frame.base))
        if frame.round == 2 and len([number for number, _ in bases if number == 2]) == 1:
            return refuse(frame, "client.base-lost", "its folder is gone")
        return told_by(0.5)(frame)

    fleet["c00"].evaluate = judge
    tables = {"codec": {"down": "int8"}, "round": {"ask": 1}, "evaluation": {"clients": True, "clients_every": 1}}
    run = fake_run(fleet, tmp_path, **tables)
    run.coordinator.strategy.select = lambda available, count, seed: ["c01"]  # it is in no round
    run.run()
    assert dict(bases)[3] == 0
    assert dict(bases)[2] > 0


def test_the_panel_is_the_same_clients_each_time(tmp_path):
    table = {"clients": True, "clients_every": 1, "clients_fraction": 0.25}
    run = fake_run(FakeFleet(10), tmp_path, evaluation=table)
    run.run()
    asked = {}
    for event in run.journal.events(EventKind.CLIENT_EVALUATED):
        asked.setdefault(event.round, set()).add(event.client)
    assert list(asked) == [0, 1, 2, 3]
    (same,) = {frozenset(clients) for clients in asked.values()}
    assert len(same) == 3  # a quarter of ten, rounded up


def test_a_client_that_joins_changes_the_panel_by_one_at_most():
    clients = [ClientId(f"c{k:03}") for k in range(100)]
    before, after = panel(clients, 0.1, 7), panel([*clients, ClientId("new")], 0.1, 7)
    assert len(before) == 10
    assert len(set(before) - set(after)) <= 1
    assert panel(clients, 0.1, 8) != before


def test_without_a_test_set_the_clients_weighted_mean_is_watched(tmp_path):
    by_round = {0: 0.2, 1: 0.8, 2: 0.6, 3: 0.7}
    fleet = FakeFleet(3)
    for client in fleet.clients:
        client.evaluate = lambda frame: told_by(by_round[frame.round])(frame)
    run = fake_run(fleet, tmp_path, evaluation={"clients": True, "clients_every": 1, "patience": 2})
    run.run()
    assert committed(run) == 3
    assert read_best(tmp_path)[0] == 1


def test_after_the_last_round_clients_train_for_themselves_and_judge_the_result(tmp_path):
    plans = {}

    def judge(frame):
        if frame.plan is None:
            return told_by(0.5)(frame)
        plans[frame.client] = frame.plan
        return refuse(frame, "training.loss-not-finite", "no") if frame.client == "c01" else told_by(0.9)(frame)

    fleet = FakeFleet(3)
    for client in fleet.clients:
        client.evaluate = judge
    table = {"clients": True, "personalised_steps": 4, "personalised_learning_rate": 0.5}
    run = fake_run(fleet, tmp_path, evaluation=table)
    run.run()
    assert {(plan.steps, plan.learning_rate, plan.objective) for plan in plans.values()} == {(4, 0.5, "plain")}
    assert len({plan.seed for plan in plans.values()}) == 3
    assert run.told(EventKind.CLIENT_TUNED, "accuracy", "steps") == [(3, "c00", 0.9, 4), (3, "c02", 0.9, 4)]
    (tuned,) = [e.payload["tuned"] for e in run.journal.events(EventKind.CLIENTS_EVALUATED) if "tuned" in e.payload]
    assert tuned["accuracy"]["clients"] == 2


def test_a_client_keeps_what_it_was_sent_to_evaluate(tmp_path):
    """So that the next evaluation, and the next round, send it a difference instead of everything."""
    fleet = FakeFleet(4)
    bases = []

    def judge(frame):
        bases.append((frame.round, frame.client, frame.base))
        return told_by(0.5)(frame)

    for client in fleet.clients:
        client.evaluate = judge
        client.info = {"versions": (0, 1, 2, 3)}
    tables = {"codec": {"down": "int8"}, "round": {"ask": 1}, "evaluation": {"clients": True, "clients_every": 1}}
    run = fake_run(fleet, tmp_path, **tables)
    run.run()
    assert {base for number, _, base in bases if number == 3} == {2}
    with Journal.read(tmp_path) as journal:
        assert journal.last_commit().round == 3
