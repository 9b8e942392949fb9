import json

import numpy as np
import pytest
from fake_benchmarks import BROKEN, FAST, READER, write_checkout

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


def test_a_folder_that_cannot_be_written_is_told_before_anything_is_measured(checkout, capsys):
    (checkout / "out").write_text("a file")
    assert perform(["bench", "fast", "--no-peers", "--folder", "out"], Session()) == 3
    told = capsys.readouterr()
    assert "out cannot be written" in told.err
    assert "--folder" in told.err
    assert "Counts to a thousand" not in told.out


def test_a_failure_stops_nothing_and_is_the_exit_status(checkout, capsys):
    assert perform(["bench", "--no-peers", "--folder", "out"], Session()) == 1
    assert "no such luck" in capsys.readouterr().out
    found = {item.subject: bool(item.failure) for item in load_latest(checkout / "out").measurements}
    assert found == {"broken": True, "fast": False}


def test_an_unknown_subject(checkout, capsys):
    assert perform(["bench", "fats"], Session()) == 2
    assert "fast" in capsys.readouterr().err


@pytest.fixture
def reader(checkout):
    (checkout / "simulations" / "benchmarks" / "reader.py").write_text(READER)
    for number in (1, 2):
        np.save(checkout / f"{number}.npy", np.full(number, 1.0 / number, np.float32))
    return checkout


def test_a_saved_delta_is_measured_by_who_takes_it(reader, capsys):
    size = (reader / "1.npy").stat().st_size
    np.save(reader / "before.npy", np.zeros(1, np.float32))
    options = ["--delta", "1.npy", "--since", "before.npy", "--no-peers"]
    assert perform(["bench", "fast", "reader", *options], Session()) == 0
    assert "(--delta 1.npy --since before.npy)" in " ".join(capsys.readouterr().out.split())
    fast, measured = load_latest(reader / "benchmarks").measurements
    assert (measured.figures[0].value, fast.given) == (2.0 * size, "")
    assert "<code>--delta 1.npy --since before.npy</code>" in (reader / "benchmarks" / "benchmarks.html").read_text()
    assert perform(["bench", "reader", "--delta", "2.npy", "--no-peers"], Session()) == 0
    assert "the one before was given --delta 1.npy" in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize(
    ("options", "status", "said"),
    [
        (["reader", "--delta", "none.npy"], 3, "there is no file none.npy"),
        (["reader", "--delta", "1.npy", "--since", "2.npy"], 3, "has shape (1,) in 1.npy and (2,) in 2.npy"),
        (["reader", "--since", "1.npy"], 2, "--since 1.npy without --delta"),
        (["fast", "--delta", "1.npy"], 2, "none of fast takes a delta"),
    ],
)
def test_what_cannot_be_the_delta_is_told_before_anything_is_measured(reader, capsys, options, status, said):
    assert perform(["bench", "--no-peers", *options], Session()) == status
    assert said in " ".join(capsys.readouterr().err.split())
    assert not (reader / "benchmarks").exists()
