"""Whose rank fell, by device class: counted from events."""

from fedpeft.journal import Event, EventKind
from fedpeft.report.ranks import RANKS_HEAD, rank_counts


def events(*rows):
    """Rows of (kind, round, client, payload)."""
    return [Event(seq, float(seq), kind, number, None, *rest) for seq, (kind, number, *rest) in enumerate(rows, 1)]


def met(client, device):
    return (EventKind.HELLO, None, client, {"device": device, "examples": 1})


def committed(number, **payload):
    return (EventKind.COMMITTED, number, None, {"accepted": 1, "seconds": 1.0} | payload)


def test_the_last_rank_of_each_client_counts_and_classes_without_are_left_out():
    fleet = [met("a", "phone"), met("b", "phone"), met("c", "watch"), met("d", "phone"), met("e", "tablet")]
    again = met("a", "phone")  # after a restart
    found = rank_counts(
        events(*fleet, committed(1), committed(2, ranks={"a": 7, "c": 3}), again, committed(3, ranks={"a": 6, "d": 7}))
    )
    assert [one.cells() for one in found] == [
        ["phone", "3", "2", "6", "6.5", "7"],
        ["watch", "1", "1", "3", "3.0", "3"],
    ]
    assert all(len(one.cells()) == len(RANKS_HEAD) for one in found)
    assert rank_counts(events(*fleet, committed(1))) == ()
