"""One run from its plan to its exported adapter, in its folder.

    assemble -> plan -> journal -> [ federated run | centralised comparison beside it ] -> adapter/ -> report.html

Every step can be repeated: a run that was killed anywhere is finished by calling the same code on its folder again.
"""

from __future__ import annotations

import contextlib
import errno
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from safetensors import SafetensorError

from fedpeft.adapters import export_adapter
from fedpeft.evaluation import Evaluation
from fedpeft.journal import EventKind, Journal
from fedpeft.journal.diagnosis import diagnosed, disk_full
from fedpeft.paths import write_atomically
from fedpeft.report.sinks import feeding
from fedpeft.report.summary import RunPlan, summarise
from fedpeft.simulation.centralised import CentralisedProcess, train_centralised
from fedpeft.simulation.engines import run_engine
from fedpeft.simulation.federation import Federation
from fedpeft.simulation.kept import adapters_to_export, best_round
from fedpeft.simulation.personal import explain_shared
from fedpeft.simulation.plan import make_plan
from fedpeft.simulation.wiring import FORWARD
from fedpeft.types import FloatArray
from fedpeft.version import __version__

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
    engine: Engine = run_engine,
    on_plan: Callable[[RunPlan], None] = lambda plan: None,
    on_work: Callable[[Work], None] = lambda work: None,
    separate: bool = True,
) -> None:
    """Run what the journal does not have yet, up to the exported adapter. A finished run is left as it is.

    Args:
        federation: ready to run.
        journal: open for writing.
        engine: runs the rounds; default: the one that the run file names.
        on_plan: called with the plan before anything is trained.
        on_work: called as work is done; within a phase `done` never falls, and ends at `total`.
        separate: train the centralised comparison in a process of its own, from the run file in the run's folder;
            False for a federation made of the user's own objects: it is then trained here, after the federated run.

    Raises:
        FedpeftError: what ended the run. What was committed stays; the same call goes on from there.
    """
    config, folder = federation.config, journal.folder
    if _finished(journal, config.run.rounds):
        return
    with diagnosed(folder / RUN_FILE):
        write_atomically(folder / RUN_FILE, journal.config_toml.encode())
    commit = journal.last_commit()
    plan = make_plan(federation)
    on_plan(plan)
    journal.record(
        EventKind.RUN_STARTED,
        version=__version__,
        resumed=commit is not None,
        rounds=config.run.rounds,
        plan=plan.to_payload(),
    )
    total = work_of(federation)
    done = total * commit.round / config.run.rounds if commit is not None else 0.0

    def count(examples: float) -> None:
        nonlocal done
        done = min(done + examples, total)
        on_work(Work("round", done, total))

    wanted = (
        config.evaluation.centralised and len(federation.test) > 0 and not _has_centralised(journal, config.run.rounds)
    )
    # with either, how many passes there will be is known at the end only
    early = config.evaluation.early or config.scheduler is not None
    child = CentralisedProcess(folder, federation.example_passes()) if wanted and separate else None
    with contextlib.ExitStack() as stack:
        feed = stack.enter_context(feeding(config.report.sinks, journal))
        if child is not None:
            stack.callback(child.stop)
            if not early:
                child.start()
        theta, moved = engine(federation, journal, count)
        on_work(Work("exporting", total, total))
        for name, kept in adapters_to_export(journal, config, theta).items():
            federation.adapter.set(federation.whole(kept))
            _export(federation, folder / name)
            explain_shared(federation, folder / name, config.run.name)
            journal.record(EventKind.EXPORTED, path=name)
        rounds = _rounds(journal)
        passes = summarise(journal).example_passes if early else federation.example_passes()
        if child is not None:
            if early:
                child.passes, child.rounds = passes, rounds
                child.start()
            _await_centralised(journal, child, on_work)
        elif wanted:
            _train_here(federation, journal, passes, rounds, on_work)
        feed.close()  # a sink may keep all it was given until then, and fail
        for trouble in feed.troubles:
            journal.record(EventKind.FAILED, reason=trouble)
        best = best_round(journal, config)
        journal.record(EventKind.RUN_FINISHED, adapter=_last_adapter(journal), rounds=rounds, best_round=best, **moved)


def _export(federation: Federation, folder: Path) -> None:
    try:
        with diagnosed(folder):
            export_adapter(federation.adapter, folder, base_name=federation.base_name)
    except SafetensorError as error:  # it tells the system's error in its text only
        if any(f"(os error {number})" in str(error) for number in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)):
            raise disk_full(folder, str(error)) from error
        raise


def work_of(federation: Federation) -> float:
    """The work of the federated run, in examples; a step counts as a whole batch, also of a client that has less."""
    config, steps = federation.config, federation.expected_steps()
    trained = config.run.rounds * config.round.updates * sum(steps.values()) / len(steps) * config.local.batch_size
    table = config.evaluation
    own = table.clients_fraction * sum(map(len, federation.held_out.values())) if table.clients else 0.0
    more = config.run.rounds // table.clients_every if table.clients_every else 0
    tuned = table.clients_fraction * len(federation.train) * table.personalised_steps * config.local.batch_size
    own *= 2 + more + (table.personalised_steps > 0)
    whole, sample = len(federation.test), config.evaluation.examples or len(federation.test)
    between = max(0, config.run.rounds // config.evaluation.every - 1)
    return trained + tuned + FORWARD * (own + 2 * whole + between * min(sample, whole))


def _await_centralised(journal: Journal, child: CentralisedProcess, on_work: Callable[[Work], None]) -> None:
    """Wait for the comparison and record it; one that came to nothing is recorded too, and costs nothing else."""
    while not child.wait(0.2):
        on_work(Work("centralised", child.done, child.passes))
    result = child.result()
    if result is None:
        _record_failure(journal, child.trouble or "it left no result behind")
        return
    on_work(Work("centralised", child.passes, child.passes))
    _record_centralised(journal, *result)


def _train_here(
    federation: Federation, journal: Journal, passes: int, rounds: int, on_work: Callable[[Work], None]
) -> None:
    """As `_await_centralised`, in this process."""
    done = 0

    def count(examples: int) -> None:
        nonlocal done
        done = min(done + examples, passes)
        on_work(Work("centralised", done, passes))

    try:
        evaluation, passed = train_centralised(federation, passes, rounds, count)
    except Exception as error:  # the user's own loss, collate or data may raise anything; the federated run is done
        _record_failure(journal, f"{type(error).__name__}: {error}")
        return
    if not math.isfinite(evaluation.loss):
        _record_failure(journal, f"it diverged: the loss on the test set is {evaluation.loss}")
        return
    _record_centralised(journal, evaluation, passed)


def _record_centralised(journal: Journal, evaluation: Evaluation, passes: int) -> None:
    journal.record(
        EventKind.EVALUATED,
        split="centralised",
        accuracy=evaluation.accuracy,
        loss=evaluation.loss,
        metrics={name: value for name, value in evaluation.metrics.items() if math.isfinite(value)},
        examples=evaluation.examples,
        passes=passes,
    )


def _record_failure(journal: Journal, reason: str) -> None:
    journal.record(EventKind.FAILED, reason=f"the centralised comparison ended without a result: {reason}")


def _finished(journal: Journal, rounds: int) -> bool:
    """Whether the last start of this run came to its end, and no more rounds are asked for now."""
    commit = journal.last_commit()
    stopped = any(True for _ in journal.events(EventKind.STOPPED))
    if commit is None or (commit.round < rounds and not stopped):
        return False
    started = max((event.seq for event in journal.events(EventKind.RUN_STARTED)), default=0)
    return any(event.seq > started for event in journal.events(EventKind.RUN_FINISHED))


def _has_centralised(journal: Journal, rounds: int) -> bool:
    """Whether the comparison was trained for so many rounds, and not for fewer that were asked for before."""
    starts = [event for event in journal.events(EventKind.RUN_STARTED) if event.payload.get("rounds", rounds) == rounds]
    found = [event.seq for event in journal.events(EventKind.EVALUATED) if event.payload["split"] == "centralised"]
    return bool(starts and found) and found[-1] > starts[0].seq


def _rounds(journal: Journal) -> int:
    commit = journal.last_commit()
    return commit.round if commit else 0


def _last_adapter(journal: Journal) -> str:
    commit = journal.last_commit()
    return commit.adapter if commit else ""
