"""The survey behind `fedpeft ls`."""

from __future__ import annotations

import pytest

from fedpeft.journal import EventKind, Journal, RunState, is_running, list_runs
from fedpeft.journal.database import FILE


@pytest.fixture
def make(tmp_path):
    def make(name, *, toml="[run]\nrounds = 3\n"):
        return Journal.create(tmp_path / name, run=name, config_toml=toml)

    return make


def test_a_missing_or_empty_folder_has_no_runs(tmp_path):
    assert list_runs(tmp_path / "nowhere") == []
    (tmp_path / "not-a-run").mkdir()
    (tmp_path / "file").write_text("x")
    assert list_runs(tmp_path) == []


def test_each_state_is_told_apart(tmp_path, make):
    with make("c-finished") as journal:
        journal.record(EventKind.RUN_STARTED, version="0", resumed=False)
        journal.record(EventKind.EVALUATED, round=0, split="test", accuracy=0.2, loss=2.0, examples=9)
        journal.commit(1, {}, adapter="a1")
        journal.commit(2, {}, adapter="a2")
        journal.record(EventKind.EVALUATED, round=2, split="test", accuracy=0.8, loss=1.0, examples=9)
        journal.record(EventKind.EVALUATED, round=2, split="centralised", accuracy=0.9, loss=1.0, examples=9)
        journal.record(EventKind.RUN_FINISHED, adapter="a2", rounds=2)
    with make("b-resumed", toml="not = [toml") as journal:
        journal.record(EventKind.RUN_STARTED, version="0", resumed=False)
        journal.record(EventKind.RUN_FINISHED, adapter="a2", rounds=2)
        journal.record(EventKind.RUN_STARTED, version="0", resumed=True)
    (tmp_path / "d-broken").mkdir()
    (tmp_path / "d-broken" / FILE).write_bytes(b"no database at all" * 100)
    with make("a-running") as journal:
        journal.record(EventKind.RUN_STARTED, version="0", resumed=False)
        assert is_running(journal.folder)
        running, resumed, finished, broken = list_runs(tmp_path)
    assert (running.name, running.state, running.rounds_done, running.accuracy, running.adapter) == (
        "a-running",
        RunState.RUNNING,
        0,
        None,
        None,
    )
    assert (resumed.state, resumed.rounds_asked) == (RunState.INTERRUPTED, None)
    assert (finished.state, finished.rounds_done, finished.rounds_asked) == (RunState.FINISHED, 2, 3)
    assert (finished.accuracy, finished.adapter, finished.folder) == (0.8, "a2", tmp_path / "c-finished")
    assert broken.state == RunState.UNREADABLE
    assert broken.error is not None
    assert broken.error.code == "journal.corrupt"
    assert list_runs(tmp_path)[0].state == RunState.INTERRUPTED  # no longer running
