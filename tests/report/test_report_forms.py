"""In which form zeroth-order clients were sent the model: counted from events, of what was committed only."""

from fedpeft.journal import Event, EventKind
from fedpeft.report.forms import FORM_HEAD, form_counts
from fedpeft.report.history import read_history
from fedpeft.report.sections import forms_table


def events(*rows):
    """Rows of (kind, round, client, payload)."""
    return [
        Event(seq, float(seq), kind, number, None if number is None else 1, client, payload)
        for seq, (kind, number, client, payload) in enumerate(rows, start=1)
    ]


def asked(number, client, size, **form):
    return (EventKind.ASKED, number, client, {"steps": 1, "bytes": size, "version": 0, "base": 0, **form})


def committed(number):
    return (EventKind.COMMITTED, number, None, {"accepted": 1, "seconds": 1.0})


def test_times_clients_and_bytes():
    told = form_counts(
        events(
            asked(1, "a", 10, form="everything"), committed(1),
            asked(2, "a", 20, form="changes"), asked(2, "b", 300, form="checkpoint"), committed(2),
            asked(3, "a", 40, form="changes"), committed(3),
            asked(4, "a", 80, form="changes"),
        )
    )  # fmt: skip
    assert [(f.form, f.times, f.clients, f.bytes, f.largest) for f in told] == [
        ("changes", 2, 1, 60, 40),
        ("everything", 1, 1, 10, 10),
        ("checkpoint", 1, 1, 300, 300),
    ]
    assert told[0].cells() == ["coefficients that changed", "2", "1", "60 B", "30 B", "40 B"]
    assert len(FORM_HEAD) == len(told[0].cells())


def test_the_report_has_a_table_of_a_run_that_tells_forms_and_none_of_another():
    with_forms = read_history(events(asked(1, "a", 10, form="checkpoint"), committed(1)))
    assert "a checkpoint" in forms_table(with_forms)
    assert forms_table(read_history(events(asked(1, "a", 10), committed(1)))) == ""
