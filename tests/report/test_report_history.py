from collections import Counter

from fake_run import write_fake_run

from fedpeft.journal import EventKind, Journal
from fedpeft.report.history import describe, read_history


def history_of(folder):
    with Journal.read(folder) as journal:
        return read_history(list(journal.events()))


def test_rounds_evaluations_and_devices(tmp_path):
    history = history_of(write_fake_run(tmp_path / "demo"))
    assert [row.round for row in history.rounds] == [0, 1, 2, 3, 4, 5, 6]
    assert [item.round for item in history.tests] == [0, 1, 2, 3, 4, 5, 6]
    assert history.centralised is not None
    assert Counter(history.devices.values()) == {"phone": 8, "board": 4}
    assert history.sessions == 2


def test_replies_of_an_attempt_that_failed_are_left_out(tmp_path):
    history = history_of(write_fake_run(tmp_path / "demo"))
    assert Counter(reply.round for reply in history.replies) == {1: 4, 2: 4, 3: 3, 4: 3, 5: 4, 6: 4}


def test_a_round_took_the_seconds_of_its_short_attempts_too(tmp_path):
    folder = write_fake_run(tmp_path / "demo", rounds=1, finished=False, incidents=False)
    with Journal.open(folder) as journal:
        journal.record(EventKind.ROUND_SHORT, round=2, attempt=1, accepted=1, needed=2, seconds=20.0)
        journal.record(EventKind.RUN_STARTED, version="0.1.0", resumed=True)
        journal.record(EventKind.ROUND_SHORT, round=2, attempt=2, accepted=1, needed=2)  # as older versions wrote it
        journal.record(EventKind.ROUND_SHORT, round=2, attempt=3, accepted=1, needed=2, seconds=30.0)
        for number in (2, 3):
            journal.commit(number, {}, adapter="a2", attempt=4, accepted=4, seconds=9.0)
    assert [row.seconds for row in history_of(folder).rounds] == [0.0, 9.0, 59.0, 9.0]


def test_incidents_say_what_happened(tmp_path):
    history = history_of(write_fake_run(tmp_path / "demo"))
    kinds = Counter(incident.kind for incident in history.incidents)
    assert kinds == {"failed": 3, "round short": 1, "refused": 1, "late": 1, "abandoned": 1, "resumed": 1}
    texts = {incident.kind: incident.text for incident in history.incidents}
    assert texts["refused"].endswith("not finite [guard.not-finite]")
    assert texts["late"] == "1 round late; folded in, discounted"
    assert texts["round short"] == "1 usable replies, 2 needed: attempted again"


def test_what_moves_after_the_last_round_is_shown_with_it(tmp_path):
    folder = write_fake_run(tmp_path / "demo", rounds=1, finished=False, incidents=False)
    with Journal.open(folder) as journal:
        journal.record(EventKind.RUN_FINISHED, adapter="", rounds=1, frame_up=11)
    assert history_of(folder).rounds[-1].moved["frame_up"] == 4 * 170_000 + 11


def test_every_kind_of_event_can_be_described(tmp_path):
    with Journal.read(write_fake_run(tmp_path / "demo")) as journal:
        described = {event.kind: describe(event) for event in journal.events()}
    assert described[EventKind.ABANDONED] == "no reply within the deadline"
    assert "examples 250" in described[EventKind.HELLO]
    assert "{" not in described[EventKind.RUN_STARTED]  # the plan has a table of its own


def test_a_client_that_a_commit_names_is_an_incident(tmp_path):
    folder = write_fake_run(tmp_path / "demo", rounds=1, finished=False, incidents=False)
    with Journal.open(folder) as journal:
        journal.commit(2, {}, adapter="a2", attempt=1, accepted=4, seconds=1.0, outlying=["c03", "c07"])
    found = [item for item in history_of(folder).incidents if item.kind == "outlying"]
    assert [(item.round, item.attempt, item.client) for item in found] == [(2, 1, "c03"), (2, 1, "c07")]
    assert "zeroth.deviations" in found[0].text
