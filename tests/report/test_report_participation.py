"""Who is in the adapter, by device class: counted from events, of what was committed only."""

import pytest

from fedpeft.journal import Event, EventKind
from fedpeft.report.clock_plots import clock_plot, staleness_plot
from fedpeft.report.history import read_history
from fedpeft.report.participation import participation


def events(*rows):
    """Rows of (kind, round, client, payload)."""
    return [
        Event(seq, float(seq), kind, number, None if number is None else 1, client, payload)
        for seq, (kind, number, client, payload) in enumerate(rows, start=1)
    ]


def started():
    return (EventKind.RUN_STARTED, None, None, {"version": "0", "resumed": False})


def met(client, device):
    return (EventKind.HELLO, None, client, {"device": device, "examples": 1})


def asked(number, client):
    return (EventKind.ASKED, number, client, {"steps": 1, "bytes": 1, "version": 0, "base": 0})


def folded(number, client):
    return (EventKind.ACCEPTED, number, client, {"seconds": 1.0, "weight": 1.0})


def committed(number, **payload):
    return (EventKind.COMMITTED, number, None, {"accepted": 1, "seconds": 1.0} | payload)


FLEET = (started(), met("c00", "phone"), met("c01", "phone"), met("c02", "speaker"), met("c03", "watch"))


def test_each_class_with_what_it_was_asked_and_what_was_folded_and_how_old_it_was():
    history = events(
        *FLEET,
        asked(1, "c00"), asked(1, "c02"), folded(1, "c00"), committed(1),
        asked(2, "c00"), folded(2, "c00"), committed(2),
        folded(1, "c02"), committed(3),
    )  # fmt: skip
    phone, speaker, watch = participation(history)
    assert (phone.clients, phone.heard, phone.asked, phone.folded, phone.mean_age, phone.max_age) == (2, 1, 2, 2, 0, 0)
    assert (speaker.asked, speaker.folded, speaker.mean_age, speaker.max_age) == (1, 1, 2, 2)
    assert (phone.share, speaker.share) == pytest.approx((2 / 3, 1 / 3))
    assert (watch.clients, watch.heard, watch.asked, watch.share, watch.mean_age) == (1, 0, 0, 0, None)
    assert speaker.cells() == ["speaker", "1", "1", "1", "1", "33.3 %", "2.00", "2"]


@pytest.mark.parametrize(
    "interruption", [started(), (EventKind.ROUND_SHORT, 1, None, {"accepted": 1, "needed": 2})], ids=["kill", "short"]
)
def test_what_was_folded_and_never_committed_is_in_no_adapter(interruption):
    history = events(
        *FLEET, asked(1, "c00"), folded(1, "c00"), interruption, asked(1, "c02"), folded(1, "c02"), committed(1)
    )
    phone, speaker, _ = participation(history)
    assert (phone.folded, speaker.folded) == (0, 1)


def test_the_history_tells_each_rounds_staleness_and_says_nothing_of_a_journal_that_has_none():
    history = read_history(events(*FLEET, committed(1, staleness_mean=0.5, staleness_max=2), committed(2)))
    assert [(row.staleness_mean, row.staleness_max) for row in history.rounds] == [(0.5, 2), (None, None)]
    assert [one.device for one in history.participation] == ["phone", "speaker", "watch"]


def evaluated(number, accuracy):
    payload = {"split": "test", "accuracy": accuracy, "loss": 1.0, "examples": 10}
    return (EventKind.EVALUATED, number, None, payload)


def test_accuracy_is_drawn_against_the_time_of_the_rounds():
    rows = [committed(1, seconds=2.0), evaluated(1, 0.5), committed(2, seconds=0.5), evaluated(2, 0.75)]
    figure = clock_plot(read_history(events(*FLEET, committed(0, seconds=0.0), *rows)), "accuracy")
    (trace,) = figure["data"]
    assert (trace["x"], trace["y"]) == ([2.0, 2.5], [50.0, 75.0])
    assert clock_plot(read_history(events(*FLEET, *rows[:2])), "accuracy") is None, "one point is no curve"


def test_staleness_is_drawn_only_where_something_was_stale():
    fresh = committed(1, staleness_mean=0.0, staleness_max=0)
    assert staleness_plot(read_history(events(*FLEET, fresh))) is None
    figure = staleness_plot(read_history(events(*FLEET, fresh, committed(2, staleness_mean=1.5, staleness_max=3))))
    assert [(trace["x"], trace["y"]) for trace in figure["data"]] == [([1, 2], [0.0, 1.5]), ([1, 2], [0.0, 3.0])]
