"""Which bytes moved: every frame of training is in the row of its class and codec, and rows add up to the totals."""

from __future__ import annotations

from fake_fleet import fleet_config
from tiny import run_tiny

from fedpeft.journal import Event, EventKind, Journal
from fedpeft.report.bytes_by import bytes_by
from fedpeft.report.page import write_report
from fedpeft.report.summary import stored_config, summarise

CONFIG = fleet_config(3, codec__up="int8", codec__down="sign")


def events(*rows):
    """Rows of (kind, round, client, payload)."""
    return [
        Event(seq, float(seq), kind, number, None if number is None else 1, client, payload)
        for seq, (kind, number, client, payload) in enumerate(rows, start=1)
    ]


def met(client, device):
    return (EventKind.HELLO, None, client, {"device": device, "examples": 1})


def asked(number, client, **payload):
    return (EventKind.ASKED, number, client, {"bytes": 100, **payload})


def came(kind, number, client, count, **payload):
    return (kind, number, client, {"bytes": count, **payload})


FLEET = (met("c00", "phone"), met("c01", "phone"), met("c02", "tablet"))


def test_updates_refusals_and_late_replies_count_in_the_row_of_what_was_asked():
    found = bytes_by(
        events(
            *FLEET,
            asked(1, "c00"), asked(1, "c01", codec="sign"), asked(1, "c02"),
            came(EventKind.ACCEPTED, 1, "c00", 10), came(EventKind.REFUSED, 1, "c01", 2, code="x", reason="y"),
            (EventKind.COMMITTED, 1, None, {"frame_up": 12, "frame_down": 300}),
            asked(2, "c00", codec="sign"),
            came(EventKind.LATE, 2, "c02", 11, rule="drop"),
            came(EventKind.ACCEPTED, 2, "c00", 3, codec="sign"),
            came(EventKind.LATE, 2, "c01", 2, rule="fold"), came(EventKind.ACCEPTED, 1, "c01", 2, codec="sign"),
            (EventKind.COMMITTED, 2, None, {"frame_up": 16, "frame_down": 100}),
        ),
        CONFIG,
    )  # fmt: skip
    rows = {(row.device, row.codec): (row.asked, row.replies, row.up, row.down) for row in found.classes}
    assert rows == {
        ("phone", "int8"): (1, 1, 10, 100),
        ("phone", "sign"): (2, 3, 7, 200),
        ("tablet", "int8"): (1, 1, 11, 100),
    }
    own = {row.client: (row.device, row.asked, row.replies, row.up, row.down) for row in found.clients}
    assert own == {
        "c00": ("phone", 2, 2, 13, 200),
        "c01": ("phone", 1, 2, 4, 100),
        "c02": ("tablet", 1, 1, 11, 100),
    }
    assert found.clients[0].up_by_codec == {"int8": 10, "sign": 3}
    assert found.codec_down == "sign"
    assert found.kinds == []  # nothing has told of greetings and evaluations yet


def test_what_an_interrupted_attempt_moved_is_not_counted():
    found = bytes_by(
        events(
            *FLEET,
            asked(1, "c00"), came(EventKind.ACCEPTED, 1, "c00", 10),
            (EventKind.RUN_STARTED, None, None, {"resumed": True}),
            asked(1, "c01"), came(EventKind.ACCEPTED, 1, "c01", 10),
            (EventKind.COMMITTED, 1, None, {"frame_up": 10, "frame_down": 100}),
        ),
        CONFIG,
    )  # fmt: skip
    assert [(row.asked, row.up) for row in found.classes] == [(1, 10)]
    assert [(row.client, row.asked, row.up) for row in found.clients] == [("c00", 0, 0), ("c01", 1, 10), ("c02", 0, 0)]


def test_rows_of_a_run_add_up_to_what_it_moved(tmp_path):
    devices = [{"name": "tablet", "clients": 2}, {"name": "phone", "clients": 3, "codec": "topk(0.1)+sign"}]
    faults = [
        {"client": "c01", "rounds": [1], "kind": "corrupt"},
        {"client": "c02", "rounds": [2], "kind": "drop"},
        {"client": "c03", "rounds": [2], "kind": "slow", "factor": 5.0},
    ]
    result = run_tiny(tmp_path, devices=devices, faults=faults, ask=4, round__over_select=1, codec__down="sign")
    with Journal.read(result.folder) as journal:
        found, total = bytes_by(journal.events(), stored_config(journal)), summarise(journal)
    kinds = {row.kind: (row.up, row.down) for row in found.kinds}
    assert kinds["train"] == tuple(sum(getattr(row, way) for row in found.clients) for way in ("up", "down"))
    assert kinds["train"] == tuple(sum(getattr(row, way) for row in found.classes) for way in ("up", "down"))
    assert (total.frame_up, total.frame_down) == tuple(sum(way) for way in zip(*kinds.values(), strict=True))
    assert min(kinds["hello"]) > 0
    assert min(kinds["evaluate"]) > 0
    assert {row.codec for row in found.classes if row.device == "phone"} == {"topk(0.1)+sign"}
    page = write_report(result.folder).read_text(encoding="utf-8")
    assert "broadcasts by sign" in page
    assert "<td>phone</td><td>topk(0.1)+sign</td>" in page
    assert "<td>evaluations</td>" in page
