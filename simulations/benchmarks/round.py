"""Where the time of a whole round goes, phase by phase.

A run of assistant.toml: eight of 20 clients train MiniLM on the synthetic assistant text and the coordinator evaluates
300 examples, all in one process as `fedpeft run` does it. CPU time of one core between two commits; the first round is
left out. Time counts for the innermost phase that is at work, so the phases add up to the round.
"""

from __future__ import annotations

import functools
import importlib
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from fedpeft.bench import Figure, Goal, main, say

RUN_FILE = Path(__file__).resolve().parents[1] / "assistant.toml"
WHOLE, REST = "the whole round", "everything else"
PHASES = {
    "local training": (
        "fedpeft.training.trainer:SequentialTrainer.run",
        "fedpeft.training.batched.trainer:BatchedTrainer.run",
    ),
    "evaluation": ("fedpeft.simulation.federation:Federation.evaluate",),
    "encoding, with error feedback": ("fedpeft.client.agent:compensate_held",),
    "guard": ("fedpeft.aggregation.guard:UpdateGuard.check",),
    "decoding and mean": ("fedpeft.server.reading:DeltaReading.update", "fedpeft.strategies.fedavg:FedAvg.accept"),
    "broadcast": ("fedpeft.server.broadcasts:Broadcasts.publish",),
    "frames": (
        "fedpeft.client.agent:encode_frame",
        "fedpeft.client.agent:decode_frame",
        "fedpeft.server.post:encode_frame",
        "fedpeft.server.post:decode_frame",
    ),
    "the clients' disk": (
        "fedpeft.client.store:ClientStore.keep_residual",
        "fedpeft.client.store:ClientStore.residual",
        "fedpeft.client.store:ClientStore.keep_broadcast",
        "fedpeft.client.store:ClientStore.broadcast",
    ),
    "journal": (
        "fedpeft.journal.journal:Journal.record",
        "fedpeft.journal.journal:Journal.flush",
        "fedpeft.journal.journal:Journal.commit",
    ),
    "Flower's messages": (
        "fedpeft.flower.local_grid:LocalGrid.push_messages",
        "fedpeft.flower.local_grid:LocalGrid.pull_messages",
    ),
}
MODEL = ("local training", "evaluation")
SHARE_GOAL = 3.0  # %: the federation is to cost next to nothing beside the model
WHY_MORE = "an entropy coder of eight updates, 60 ms: with codec.up = int8 it is 2.7 %, and 4.7 times the bytes"


def measure(quick: bool) -> list[Figure]:
    """ms of CPU time a round."""
    import torch

    torch.set_num_threads(1)
    rounds = 3 if quick else 6
    say(f"{rounds} rounds of {RUN_FILE.name}")
    clock = PhaseClock()
    taken: list[dict[str, float]] = []
    with tempfile.TemporaryDirectory() as folder:
        _run(Path(folder), rounds, clock, taken)
    group = f"one round of {RUN_FILE.name}, CPU time"
    whole = [sum(phases.values()) for phases in taken]
    model = [sum(phases.get(name, 0.0) for name in MODEL) for phases in taken]
    phases = {name: [1e3 * found.get(name, 0.0) for found in taken] for name in [*PHASES, REST]}
    return [
        Figure.of(WHOLE, [1e3 * seconds for seconds in whole], "ms", group=group),
        *[Figure.of(name, samples, "ms", group=group) for name, samples in phases.items()],
        Figure.of(
            "all but training and evaluation",
            [100 * (1 - part / total) for part, total in zip(model, whole, strict=True)],
            "%",
            group="share of the round",
            goals=[Goal(SHARE_GOAL, why=WHY_MORE)],
        ),
    ]


class PhaseClock:
    """CPU seconds by phase; whoever is innermost has the clock."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self._phase = [REST]
        self._since = time.process_time()

    def enter(self, phase: str) -> None:
        """From here on time counts for `phase`."""
        self._turn()
        self._phase.append(phase)

    def leave(self) -> None:
        """Back to the phase around it."""
        self._turn()
        self._phase.pop()

    def take(self) -> dict[str, float]:
        """The seconds since the last call."""
        self._turn()
        taken, self.seconds = dict(self.seconds), defaultdict(float)
        return taken

    def _turn(self) -> None:
        now = time.process_time()
        self.seconds[self._phase[-1]] += now - self._since
        self._since = now

    def watch(self, phase: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """`function` with its time counted; of one that yields, the time in which it makes its values."""

        @functools.wraps(function)
        def watched(*arguments: Any, **options: Any) -> Any:
            self.enter(phase)
            try:
                result = function(*arguments, **options)
            finally:
                self.leave()
            return self._each(phase, result) if isinstance(result, Iterator) else result

        return watched

    def _each(self, phase: str, values: Iterator[Any]) -> Iterator[Any]:
        while True:
            self.enter(phase)
            try:
                value = next(values)
            except StopIteration:
                return
            finally:
                self.leave()
            yield value


def _run(folder: Path, rounds: int, clock: PhaseClock, taken: list[dict[str, float]]) -> None:
    """Run the federation; `taken` gets one entry for each round but the first."""
    from fedpeft.config import load_run_file
    from fedpeft.journal import Event, EventKind, Journal
    from fedpeft.simulation.federation import assemble
    from fedpeft.simulation.run import perform

    overrides = [f"run.rounds={rounds}", f'run.folder="{folder}"', "evaluation.centralised=false"]
    config = load_run_file(RUN_FILE, overrides)
    federation = assemble(config)
    for phase, places in PHASES.items():
        for place in places:
            _replace(place, functools.partial(clock.watch, phase))

    def observe(event: Event) -> None:
        if event.kind is EventKind.COMMITTED:
            phases = clock.take()
            if event.round and event.round > 1:
                taken.append(phases)

    with Journal.create(folder / "run", run=config.run.name, config_toml=config.to_toml()) as journal:
        journal.subscribe(observe)
        perform(federation, journal, separate=False)


def _replace(place: str, change: Callable[[Any], Any]) -> None:
    """Put something else in the place of `module:Class.method` or `module:function`, for the rest of this process."""
    module, _, path = place.partition(":")
    owner: Any = importlib.import_module(module)
    *outer, name = path.split(".")
    for part in outer:
        owner = getattr(owner, part)
    setattr(owner, name, change(getattr(owner, name)))


if __name__ == "__main__":
    sys.exit(main(__file__, measure))
