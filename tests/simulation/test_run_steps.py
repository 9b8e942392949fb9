"""A run from plan to adapter: progress that can be believed, and steps that can each be the last before a crash."""

from __future__ import annotations

import contextlib
import errno
import os

import pytest
from safetensors import SafetensorError
from tiny import run_tiny, tiny_arguments

from fedpeft import simulate
from fedpeft.errors import JournalError
from fedpeft.journal import EventKind, Journal
from fedpeft.simulation import run as run_module

pytestmark = pytest.mark.slow


class Stop(Exception):
    pass


def works(folder, monkeypatch, **options):
    """All `Work` of a run, in order."""
    seen = []
    perform = run_module.perform

    def watched(federation, journal, *, on_work, **more):
        perform(federation, journal, on_work=lambda work: (seen.append(work), on_work(work)), **more)

    monkeypatch.setattr(run_module, "perform", watched)
    with contextlib.suppress(Stop):
        run_tiny(folder, **options)
    return seen


def phases(seen):
    order = list(dict.fromkeys(work.phase for work in seen))
    return {phase: [work for work in seen if work.phase == phase] for phase in order}


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"evaluation__centralised": True},
        {"evaluation__examples": 10, "evaluation__every": 2},
        {"evaluation__clients": False},
        {"faults": [{"client": "c01", "rounds": [1, 2, 3], "kind": "crash"}]},
        {"devices": [{"name": "fast", "clients": 4}, {"name": "slow", "clients": 1, "steps": 9}]},
    ],
    ids=str,
)
def test_work_never_falls_and_ends_at_its_total(tmp_path, monkeypatch, options):
    by_phase = phases(works(tmp_path, monkeypatch, **options))
    assert list(by_phase) == ["round", "exporting", *(["centralised"] if "evaluation__centralised" in options else [])]
    for phase, seen in by_phase.items():
        done = [work.done for work in seen]
        assert done == sorted(done), f"{phase} went back"
        assert {work.total for work in seen} == {seen[0].total}
        assert done[0] > 0
        assert all(0 <= work.done <= work.total for work in seen)
    assert by_phase["round"][0].total == by_phase["exporting"][0].total
    assert by_phase["exporting"][-1].done == by_phase["exporting"][-1].total
    for phase in by_phase.keys() - {"round", "exporting"}:
        assert by_phase[phase][-1].done == by_phase[phase][-1].total


def test_without_faults_the_estimate_is_right(tmp_path, monkeypatch):
    last = phases(works(tmp_path, monkeypatch))["round"][-1]
    assert last.done >= 0.95 * last.total


def test_a_resumed_run_goes_on_from_where_its_work_was(tmp_path, monkeypatch):
    def stop(event):
        if event.kind is EventKind.COMMITTED and event.round == 3:
            raise Stop

    first = works(tmp_path, monkeypatch, observers=[stop])
    monkeypatch.undo()
    second = works(tmp_path, monkeypatch, resume=True)
    assert second[0].done >= 0.6 * second[0].total
    assert abs(second[0].done - first[-1].done) < 0.2 * first[-1].total


def test_progress_reaches_the_caller_in_words(tmp_path):
    seen = []
    simulate(**tiny_arguments(tmp_path, evaluation__centralised=True), on_progress=seen.append)
    assert list(dict.fromkeys(item.phase for item in seen)) == ["zero-shot", "round", "exporting", "centralised"]
    assert "round 4 of 4" in {item.text for item in seen}


def test_a_finished_run_is_left_as_it_is_and_more_rounds_go_on(tmp_path):
    whole = run_tiny(tmp_path / "whole", rounds=4)
    half = run_tiny(tmp_path / "parts", rounds=2)
    with Journal.read(half.folder) as journal:
        before = len(list(journal.events()))
    run_tiny(tmp_path / "parts", rounds=2, resume=True)
    with Journal.read(half.folder) as journal:
        assert len(list(journal.events())) == before
    assert run_tiny(tmp_path / "parts", rounds=4, resume=True).adapter_hash == whole.adapter_hash


STEPS = [EventKind.COMMITTED, EventKind.CLIENT_EVALUATED, EventKind.EXPORTED, EventKind.EVALUATED]


@pytest.mark.parametrize("step", STEPS)
def test_each_step_is_recorded_once_however_often_the_last_ones_are_interrupted(tmp_path, step):
    """Stopped at the last event of this kind, resumed, and stopped there again if it comes again."""

    def stop_late(event):
        if event.kind is step and event.round in (None, 2):
            raise Stop

    options = {"rounds": 2, "evaluation__centralised": True}
    with pytest.raises(Stop):
        run_tiny(tmp_path, observers=[stop_late], **options)
    for _ in range(12):
        try:
            result = run_tiny(tmp_path, resume=True, observers=[stop_late], **options)
            break
        except Stop:
            if step is EventKind.EXPORTED:  # a resumed run exports again
                result = run_tiny(tmp_path, resume=True, **options)
                break
    with Journal.read(result.folder) as journal:
        events = list(journal.events())
    once = [(e.kind, e.round, e.client, e.payload.get("split")) for e in events if e.kind in STEPS]
    once = [item for item in once if item[0] is not EventKind.EXPORTED]
    assert len(set(once)) == len(once)
    assert sum(e.kind is EventKind.RUN_FINISHED for e in events) == 1


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)),
        SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)"),
    ],
    ids=["system", "safetensors"],
)
def test_no_room_for_the_adapter_is_a_named_error_and_resume_writes_it(tmp_path, monkeypatch, error):
    def full(*arguments, **options):
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(run_module, "export_adapter", full)
        with pytest.raises(JournalError) as caught:
            run_tiny(tmp_path, rounds=1)
    assert caught.value.code == "journal.disk-full"
    assert "adapter" in caught.value.message
    result = run_tiny(tmp_path, rounds=1, resume=True)
    assert (result.folder / "adapter" / "adapter_model.safetensors").is_file()
