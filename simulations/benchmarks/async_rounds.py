"""What asynchronous rounds are worth on unequal devices: virtual seconds until an accuracy is reached, for three modes.

    python simulations/benchmarks/async_rounds.py --folder runs/async_rounds

Runs simulations/async.toml with each seed in each mode, all with the same number of folded updates:

    sync            rounds of 8 updates, everybody asked is waited for
    over-selection  12 are asked, the round closes with the first 8; what comes later is dropped
    async           8 train at any time, every 4 updates are committed

Each run keeps a folder of its own. Those that are finished are not run again, so the command can be interrupted and
repeated; a run that was interrupted starts anew, since what was in flight would be missing from its times. The seconds
are those of the devices on the coordinator's virtual clock: training and network, without the coordinator's own
evaluation. A target counts as reached at the first commit whose accuracy on a fixed sample of 300 test examples is at
least that. About 100 s of one core for each run of 96 updates.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

RUN_FILE = Path(__file__).parents[1] / "async.toml"
COHORT, BUFFER, OVER_SELECT = 8, 4, 4
TARGETS = (0.75, 0.80, 0.85)
MODES: dict[str, dict[str, Any]] = {
    "sync": {"round.mode": "sync", "round.ask": COHORT},
    "over-selection": {"round.mode": "sync", "round.ask": COHORT, "round.over_select": OVER_SELECT},
    "async": {"round.mode": "async", "round.ask": COHORT, "round.buffer": BUFFER},
}
SLOWEST = "speaker"


@dataclass(frozen=True, slots=True)
class Outcome:
    """One finished run."""

    reached: dict[float, float | None]  # target -> virtual seconds; None: never
    seconds: float  # virtual, of the whole run
    accuracy: float  # of the last adapter on the whole test set
    megabytes: float  # of frames, both ways
    slowest: float  # share of the updates that the slowest class of devices contributed
    staleness: float  # mean over all updates, in commits


def overrides(mode: str, seed: int, updates: int, folder: Path) -> dict[str, Any]:
    """What is set on top of async.toml."""
    own = MODES[mode]
    out: dict[str, Any] = {
        "run.name": f"{mode}-{seed}-{updates}",
        "run.folder": str(folder),
        "run.seed": seed,
        "run.rounds": updates // (BUFFER if mode == "async" else COHORT),
        "evaluation.centralised": False,
        "evaluation.clients": False,
        "evaluation.examples": 300,
        **own,
    }
    return out


def outcome(folder: Path) -> Outcome | None:
    """Read a run from its journal; None when it is not finished."""
    from fedpeft.errors import JournalError
    from fedpeft.journal import EventKind, Journal
    from fedpeft.report.summary import summarise

    try:
        with Journal.read(folder) as journal:
            events, result = list(journal.events()), summarise(journal)
    except JournalError:
        return None
    if not result.finished or result.federated is None:
        return None
    clock, now = {}, 0.0
    for event in events:
        if event.kind in (EventKind.COMMITTED, EventKind.ROUND_SHORT):
            now += event.payload.get("seconds", 0.0)
            clock[event.round] = now
    tests = [event for event in events if event.kind is EventKind.EVALUATED and event.payload["split"] == "test"]
    devices = {event.client: event.payload["device"] for event in events if event.kind is EventKind.HELLO}
    folded = [event for event in events if event.kind is EventKind.ACCEPTED]
    by = Counter(devices[event.client] for event in folded)
    return Outcome(
        reached={
            target: min((clock[test.round] for test in tests if test.payload["accuracy"] >= target), default=None)
            for target in TARGETS
        },
        seconds=now,
        accuracy=result.federated,
        megabytes=result.frame_bytes / 1e6,
        slowest=by[SLOWEST] / len(folded),
        staleness=mean(event.payload["age"] for event in folded),
    )


def measure(folder: Path, seeds: Sequence[int], updates: int) -> dict[str, list[Outcome]]:
    """Every mode with every seed; runs what is missing."""
    from fedpeft import api
    from fedpeft.config import load_run_file

    outcomes: dict[str, list[Outcome]] = {mode: [] for mode in MODES}
    bar = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*bar, console=Console(stderr=True)) as progress:
        task = progress.add_task("runs", total=len(MODES) * len(seeds))
        for seed in seeds:
            for mode in MODES:
                progress.update(task, description=f"{mode}, seed {seed}")
                settings = overrides(mode, seed, updates, folder)
                place = folder / settings["run.name"]
                found = outcome(place)
                if found is None:
                    api.run(load_run_file(RUN_FILE, settings), fresh=place.exists())
                    found = outcome(place)
                    assert found is not None
                outcomes[mode].append(found)
                progress.advance(task)
    return outcomes


def show(outcomes: dict[str, list[Outcome]]) -> Table:
    """One line a mode: the mean over the seeds, and the least and the most."""
    table = Table("mode", box=None, pad_edge=False)
    for target in TARGETS:
        table.add_column(f"s to {target:.0%}", justify="right")
    for name in ("s in all", "accuracy", "MB", f"from {SLOWEST}s", "staleness"):
        table.add_column(name, justify="right")
    for mode, runs in outcomes.items():
        cells = []
        for target in TARGETS:
            reached = [run.reached[target] for run in runs]
            missed = sum(seconds is None for seconds in reached)
            cells.append(f"missed by {missed}" if missed else spread([s for s in reached if s is not None], "{:.0f}"))
        table.add_row(
            mode,
            *cells,
            spread([run.seconds for run in runs], "{:.0f}"),
            spread([100 * run.accuracy for run in runs], "{:.1f} %"),
            spread([run.megabytes for run in runs], "{:.0f}"),
            spread([100 * run.slowest for run in runs], "{:.0f} %"),
            spread([run.staleness for run in runs], "{:.2f}"),
        )
    return table


def spread(values: Sequence[float], form: str) -> str:
    """`mean (least-most)`."""
    low, high = (form.format(value).removesuffix(" %") for value in (min(values), max(values)))
    return f"{form.format(mean(values))} ({low}-{high})"


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit status."""
    parser = argparse.ArgumentParser(description="Virtual seconds to an accuracy: sync, over-selection, async.")
    parser.add_argument("--folder", type=Path, default=Path("runs/async_rounds"), help="where the runs are kept")
    parser.add_argument("--seeds", default="7,8,9", help="comma between them (default: 7,8,9)")
    parser.add_argument("--updates", type=int, default=96, help="folded in each run (default: 96)")
    options = parser.parse_args(arguments)
    if options.updates < COHORT or options.updates % COHORT:
        parser.error(f"--updates {options.updates}: a multiple of {COHORT}")
    seeds = [int(seed) for seed in options.seeds.split(",")]
    outcomes = measure(options.folder, seeds, options.updates)
    console = Console(width=160)
    console.print(f"{options.updates} updates, seeds {options.seeds}; mean (least-most) over the seeds")
    console.print(show(outcomes))
    return 0


if __name__ == "__main__":
    sys.exit(main())
