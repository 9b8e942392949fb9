"""Which client moved which bytes: whose extremes are shown, and that nobody is left out unsaid."""

from __future__ import annotations

import json

import pytest
from fake_run import write_fake_run

from fedpeft.cli.main import perform
from fedpeft.cli.output import Session
from fedpeft.journal import Journal
from fedpeft.report.bytes_by import bytes_by
from fedpeft.report.client_bytes import ClientBytes, extremes
from fedpeft.report.page import write_report
from fedpeft.report.summary import stored_config


def clients(*up):
    return [ClientBytes(f"c{place:02d}", "phone", 1, 1, size, 7) for place, size in enumerate(up)]


def test_few_clients_are_all_shown_and_who_sent_most_is_first():
    shown, said = extremes(clients(10, 30, 20, 30), each=2)
    assert [one.client for one in shown] == ["c01", "c03", "c02", "c00"]
    assert "Left out" not in said


def test_of_many_clients_the_extremes_are_shown_and_the_rest_counted():
    shown, said = extremes(clients(*range(100)), each=2)
    assert [one.client for one in shown] == ["c99", "c98", "c01", "c00"]
    assert "the 2 that sent most and the 2 that sent least" in said
    assert "Left out: 96 between them, in fedpeft show RUN --format json." in said


def test_who_was_never_asked_takes_no_room():
    idle = [ClientBytes("c90", "phone"), ClientBytes("c91", "phone")]
    shown, said = extremes(clients(1, 2) + idle, each=1)
    assert [one.client for one in shown] == ["c01", "c00"]
    assert said.endswith("Never asked: 2.")
    assert extremes([], each=1)[0] == extremes(idle, each=1)[0] == []


def test_a_row_says_what_a_message_takes_on_average():
    one = ClientBytes("c07", "board", asked=4, replies=2, up=3000, down=8000)
    assert one.cells() == ["c07", "board", "4", "3.00 kB", "1.50 kB", "8.00 kB", "2.00 kB"]
    assert ClientBytes("c07", "board", asked=1, down=5).cells()[4] == "–"


def test_rows_of_clients_add_up_to_those_of_their_classes(tmp_path):
    folder = write_fake_run(tmp_path / "demo")
    with Journal.read(folder) as journal:
        found = bytes_by(journal.events(), stored_config(journal))
    assert [one.client for one in found.clients] == [f"c{number:02}" for number in range(12)]
    for name in ("asked", "replies", "up", "down"):
        for row in found.classes:
            own = [one for one in found.clients if one.device == row.device]
            assert sum(getattr(one, name) for one in own) == getattr(row, name)
    assert all(sum(one.up_by_codec.values()) == one.up for one in found.clients)


@pytest.fixture
def large(tmp_path, monkeypatch):
    """A run of 60 clients; each was asked at most a few times."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    return write_fake_run(tmp_path / "runs" / "large", rounds=20, clients=[f"d{number:02}" for number in range(60)])


def test_the_report_shows_twenty_and_says_how_many_it_leaves_out(large):
    page = write_report(large).read_text(encoding="utf-8")
    bytes_section = page[page.index("<h2>Bytes</h2>") : page.index("<h2>Clients</h2>")]
    assert bytes_section.count("<tr><td>d") == 20
    assert "the 10 that sent most and the 10 that sent least. Left out: " in bytes_section


def test_the_screen_shows_six_and_json_has_them_all(large, capsys):
    assert perform(["show", "large"], Session()) == 0
    out = capsys.readouterr().out
    table = out[out.index("client   devices") : out.index("Training by client")]
    assert sum(line.startswith("d") for line in table.splitlines()) == 6
    assert max(map(len, table.splitlines())) <= 80
    assert "the 3 that sent most and the 3 that sent least" in out
    assert perform(["show", "large", "--format", "json"], Session()) == 0
    told = json.loads(capsys.readouterr().out)["bytes_by"]["clients"]
    assert {one["client"] for one in told} == {f"d{number:02}" for number in range(60)}
    most = max(told, key=lambda one: one["up"])
    assert most["up"] == most["replies"] * 170_000 == most["up_by_codec"]["int8"]
