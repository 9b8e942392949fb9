"""One run from its plan to its exported adapter, in its folder.

    assemble -> plan -> journal -> [ federated run | centralised comparison beside it ] -> adapter/ -> report.html

Every step can be repeated: a run that was killed anywhere is finished by calling the same code on its folder again.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from fedpeft import __version__
from fedpeft.adapters import export_adapter
from fedpeft.evaluation import Evaluation
from fedpeft.journal import EventKind, Journal
from fedpeft.paths import write_atomically
from fedpeft.simulation.centralised import CentralisedProcess, train_centralised
from fedpeft.simulation.federation import Federation
from fedpeft.simulation.local import run_local
from fedpeft.simulation.plan import make_plan
from fedpeft.simulation.wiring import FORWARD
from fedpeft.types import FloatArray

ADAPTER = "adapter"
RUN_FILE = "run.toml"


Engine: TypeAlias = Callable[[Federation, Journal, Callable[[float], None]], tuple[FloatArray, dict[str, Any]]]
"""(federation, journal, on_examples) -> θ of the last round, and bytes as `run_local` returns them."""


@dataclass(frozen=True, slots=True)
class Work:
    """How much of a run is done, in examples passed forward and backward (forward only: `FORWARD` of one)."""

    phase: str  # "zero-shot" | "round" | "evaluating" | "centralised" | "exporting"
    done: float
    total: float


def perform(
    federation: Federation,
    journal: Journal,
    *,
    engine: Engine = run_local,
    on_work: Callable[[Work], None] = lambda work: None,
    separate: bool = True,
) -> None:
    """Run what the journal does not have yet, up to the exported adapter.

    Args:
        federation: ready to run.
        journal: open for writing.
        engine: runs the rounds.
        on_work: called as work is done.
        separate: train the centralised comparison in a process of its own, from the run file in the run's folder;
            False for a federation made of the user's own objects: it is then trained here, after the federated run.
    """
    config, folder = federation.config, journal.folder
    write_atomically(folder / RUN_FILE, journal.config_toml.encode())
    resumed = journal.last_commit() is not None
    plan = make_plan(federation)
    journal.record(EventKind.RUN_STARTED, version=__version__, resumed=resumed, plan=plan.to_payload())
    total = work_of(federation)
    done = 0.0

    def count(examples: float) -> None:
        nonlocal done
        done += examples
        on_work(Work("round", min(done, total), total))

    wanted = config.evaluation.centralised and len(federation.test) > 0
    passes = federation.example_passes()
    child = CentralisedProcess(folder, passes) if wanted and separate else None
    with contextlib.ExitStack() as stack:
        if child is not None:
            stack.callback(child.stop)
            child.start()
        theta, moved = engine(federation, journal, count)
        on_work(Work("exporting", total, total))
        federation.adapter.set(theta)
        export_adapter(federation.adapter, folder / ADAPTER, base_name=federation.base_name)
        journal.record(EventKind.EXPORTED, path=ADAPTER)
        if wanted and not _has_centralised(journal):
            if child is not None:
                while not child.wait(0.2):
                    on_work(Work("centralised", child.done, passes))
                _record_centralised(journal, child.result(), folder)
            else:
                _record_centralised(journal, _train_here(federation, passes, on_work), folder)
        journal.record(
            EventKind.RUN_FINISHED,
            adapter=_last_adapter(journal),
            rounds=config.run.rounds,
            **moved,
        )


def work_of(federation: Federation) -> float:
    """The work of the federated run, in examples."""
    config = federation.config
    own = sum(map(len, federation.held_out.values())) if config.evaluation.clients else 0
    whole, sample = len(federation.test), config.evaluation.examples or len(federation.test)
    between = max(0, config.run.rounds // config.evaluation.every - 1)
    return federation.example_passes() + FORWARD * (2 * own + 2 * whole + between * min(sample, whole))


def _train_here(federation: Federation, passes: int, on_work: Callable[[Work], None]) -> tuple[Evaluation, int]:
    done = 0

    def count(examples: int) -> None:
        nonlocal done
        done += examples
        on_work(Work("centralised", done, passes))

    return train_centralised(federation, passes, count)


def _record_centralised(journal: Journal, result: tuple[Evaluation, int] | None, folder: Path) -> None:
    if result is None:
        log = folder / "centralised.log"
        lines = log.read_text(encoding="utf-8").strip().splitlines() if log.is_file() else []
        journal.record(
            EventKind.FAILED,
            reason=f"the centralised comparison ended without a result: {(lines or ['no output'])[-1]}",
        )
        return
    evaluation, passes = result
    journal.record(
        EventKind.EVALUATED,
        split="centralised",
        accuracy=evaluation.accuracy,
        loss=evaluation.loss,
        examples=evaluation.examples,
        passes=passes,
    )


def _has_centralised(journal: Journal) -> bool:
    return any(event.payload["split"] == "centralised" for event in journal.events(EventKind.EVALUATED))


def _last_adapter(journal: Journal) -> str:
    commit = journal.last_commit()
    return commit.adapter if commit else ""
