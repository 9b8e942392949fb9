import json

import pytest
from fake_run import PLAN, write_fake_run

from fedpeft import api
from fedpeft.cli.main import perform
from fedpeft.cli.output import Session


def call(*arguments):
    return perform(list(arguments), Session())


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A working folder with a finished and an interrupted run."""
    monkeypatch.chdir(tmp_path)
    write_fake_run(tmp_path / "runs" / "demo")
    write_fake_run(tmp_path / "runs" / "cut", rounds=4, asked_rounds=20, finished=False)
    return tmp_path


def test_ls_shows_how_runs_stand(here, capsys):
    assert call("ls") == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[:5] for line in lines if line.startswith(("cut", "demo"))] == [
        ["cut", "interrupted", "4", "of", "20"],
        ["demo", "finished", "6", "of", "6"],
    ]
    assert max(map(len, lines)) <= 80


def test_ls_lists_a_damaged_run_with_its_error(here, capsys):
    (here / "runs" / "cut" / "journal.sqlite").write_bytes(b"no database" * 1000)
    assert call("ls", "--format", "json") == 0
    runs = {run["name"]: run for run in json.loads(capsys.readouterr().out)}
    assert runs["cut"]["state"] == "unreadable"
    assert runs["cut"]["error"]["code"] == "journal.corrupt"
    assert runs["demo"]["rounds_done"] == 6
    assert call("ls") == 0
    assert "[journal.corrupt]" in capsys.readouterr().out


def test_ls_of_an_empty_folder_says_how_to_begin(here, capsys):
    assert call("ls", "--folder", "elsewhere") == 0
    assert capsys.readouterr().out == "no runs in elsewhere/ yet; fedpeft run FILE begins one\n"


def test_show_tells_rounds_incidents_and_result_in_80_columns(here, capsys):
    assert call("show", "demo") == 0
    out = capsys.readouterr().out
    assert "refused: client c10: delta has 5 values that are not finite [guard.not-finite]" in out
    assert "83.9 %   81.2 to 86.3 %" in out
    assert "623×" in out
    tables = [line for line in out.splitlines() if "[guard" not in line]
    assert max(map(len, tables)) <= 80


def test_show_of_an_interrupted_run_says_how_it_goes_on(here, capsys):
    assert call("show", "cut") == 0
    assert "fedpeft resume cut" in capsys.readouterr().out


def test_show_as_json_with_events(here, capsys):
    assert call("show", "demo", "--events", "--format", "json") == 0
    document = json.loads(capsys.readouterr().out)
    assert document["result"]["rounds"] == 6
    assert document["plan"]["clients"] == PLAN.clients
    assert len(document["rounds"]) == 7
    assert document["events"][0]["kind"] == "run_started"
    assert [event["seq"] for event in document["events"]] == list(range(1, len(document["events"]) + 1))


def test_show_events_as_text(here, capsys):
    assert call("show", "demo", "--events") == 0
    assert "round_short 2: 1 usable replies, 2 needed: attempted again" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["demo", "runs/demo"])
def test_report_is_written_for_a_name_or_a_folder(here, capsys, name):
    assert call("report", name) == 0
    assert capsys.readouterr().out == "runs/demo/report.html\n"
    assert (here / "runs" / "demo" / "report.html").stat().st_size > 1_000_000


def test_unknown_run_names_the_known_ones(here, capsys):
    assert call("show", "dmo") == 7
    err = capsys.readouterr().err
    assert "allowed: cut, demo" in err
    assert 'did you mean "demo"?' in err


def test_export_hands_over_folder_and_choice(here, capsys, monkeypatch):
    seen = []

    def export(folder, to, *, merged, which, client, pruned):
        seen.append((str(folder), str(to), merged, which, client, pruned))
        return to

    monkeypatch.setattr(api, "export", export)
    assert call("export", "demo", "--to", "out") == 0
    assert capsys.readouterr().out == "out\n"
    assert call("export", "demo", "--to", "out", "--merged", "--format", "json") == 0
    assert json.loads(capsys.readouterr().out) == {"path": "out", "merged": True}
    assert call("export", "demo", "--to", "out", "--round", "best", "--client", "c03") == 0
    capsys.readouterr()
    assert call("export", "demo", "--to", "out", "--pruned", "0.5", "--format", "json") == 0
    assert json.loads(capsys.readouterr().out) == {"path": "out", "merged": True, "load": "transformers"}
    whole = [("runs/demo", "out", merged, "kept", None, 0.0) for merged in (False, True)]
    more = [("runs/demo", "out", False, "best", "c03", 0.0), ("runs/demo", "out", False, "kept", None, 0.5)]
    assert seen == whole + more
