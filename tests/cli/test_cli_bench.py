import json

import pytest
from fake_benchmarks import BROKEN, FAST, write_checkout

from fedpeft.bench.results import load_latest
from fedpeft.cli.main import perform
from fedpeft.cli.output import Session


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    write_checkout(tmp_path, fast=FAST, broken=BROKEN)
    return tmp_path


def test_list(checkout, capsys):
    assert perform(["bench", "--list"], Session()) == 0
    out = capsys.readouterr().out
    assert "Counts to a thousand" in out
    assert "broken" in out
    assert perform(["bench", "--list", "--format", "json"], Session()) == 0
    assert json.loads(capsys.readouterr().out)[1] == {
        "name": "fast",
        "about": "Counts to a thousand, against a peer that counts backwards.",
        "peers": ["counter"],
    }
    assert not (checkout / "benchmarks").exists()


def test_measures_saves_and_compares(checkout, capsys):
    assert perform(["bench", "fast", "--no-peers"], Session()) == 0
    out = capsys.readouterr().out
    assert "Counts to a thousand" in out
    assert "left out (--no-peers)" in " ".join(out.split())
    [measured] = load_latest(checkout / "benchmarks").measurements
    assert measured.figures[1].value == 2.0
    assert "Counts to a thousand" in (checkout / "benchmarks" / "benchmarks.html").read_text()
    assert perform(["bench", "fast", "--no-peers"], Session()) == 0
    assert "within the spread" in capsys.readouterr().out


@pytest.mark.slow
def test_a_peer_is_installed_and_measured(checkout, capsys):
    assert perform(["bench", "fast", "--quick", "--format", "json"], Session()) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["worse"] == []
    assert load_latest(checkout / "benchmarks").measurements == ()
    [measured] = load_latest(checkout / "benchmarks" / "quick").measurements
    assert [figure.value for figure in measured.figures] == [3.0, 1.0]


def test_a_failure_stops_nothing_and_is_the_exit_status(checkout, capsys):
    assert perform(["bench", "--no-peers", "--folder", "out"], Session()) == 1
    assert "no such luck" in capsys.readouterr().out
    found = {item.subject: bool(item.failure) for item in load_latest(checkout / "out").measurements}
    assert found == {"broken": True, "fast": False}


def test_an_unknown_subject(checkout, capsys):
    assert perform(["bench", "fats"], Session()) == 2
    assert "fast" in capsys.readouterr().err
