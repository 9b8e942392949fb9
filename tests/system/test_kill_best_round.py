"""`kill -9` in a run that looks for its best round, ends early and personalises: it ends as if nothing had happened."""

from __future__ import annotations

import pytest
import tiny

from fedpeft.journal import EventKind, Journal
from fedpeft.server.best import read_best

pytestmark = pytest.mark.system

OPTIONS = {
    "rounds": 8,
    "local__schedule": {"name": "step", "every": 2, "factor": 0.1},
    "evaluation__keep": "best",
    "evaluation__patience": 2,
    "evaluation__min_delta": 0.2,
    "evaluation__clients_every": 1,
    "evaluation__personalised_steps": 2,
    "report__sinks": ["csv"],
}
TOLD = (EventKind.STOPPED, EventKind.EVALUATED, EventKind.CLIENTS_EVALUATED, EventKind.RUN_FINISHED)
KILLS = ["evaluated:3", "clients_evaluated:2", "stopped:1", "client_tuned:2", "exported:1", "exported:2"]


def run(folder, **more):
    process = tiny.start_tiny(folder, **OPTIONS, **more)
    process.join(120)
    assert process.exitcode is not None, "the run hangs"
    return process.exitcode


def story(folder):
    """Evaluations, the best round's bits, and the exported files."""
    with Journal.open(folder / "tiny") as journal:
        told = [(e.kind, e.round, e.payload) for kind in TOLD for e in journal.events(kind)]
        assert [event.kind for event in journal.events()].count(EventKind.RUN_FINISHED) == 1
    best, theta = read_best(folder / "tiny")
    exported = {
        path.parent.name: path.read_bytes() for path in sorted((folder / "tiny").glob("adapter*/*.safetensors"))
    }
    bytes_moved = (
        "frame_up",
        "frame_down",
        "wire_up",
        "wire_down",
        "by_kind",
    )  # of a session that was killed they are lost
    plain = [
        (kind, number, {k: v for k, v in payload.items() if k not in bytes_moved}) for kind, number, payload in told
    ]
    return plain, best, theta.tobytes(), exported


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    folder = tmp_path_factory.mktemp("reference")
    assert run(folder) == 0
    return story(folder)


def test_the_reference_stops_early(reference):
    told, *_, exported = reference
    assert EventKind.STOPPED in {kind for kind, *_ in told}
    assert set(exported) == {"adapter", "adapter-last"}


@pytest.mark.parametrize("kill", KILLS)
def test_killed_there_it_ends_the_same(reference, tmp_path, kill):
    assert run(tmp_path, kill=kill) == -9
    assert run(tmp_path, resume=True) == 0
    assert story(tmp_path) == reference
