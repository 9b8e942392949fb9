"""The runs that `cluster.py` measures; each is called in an interpreter of its own."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

RUN_FILE = Path(__file__).parents[1] / "assistant.toml"
CLASSES = (
    ("tablet", 0.2, 0.15, 6, 40.0, 100.0),
    ("phone", 0.5, 0.4, 6, 10.0, 50.0),
    ("speaker", 0.3, 1.2, 4, 2.0, 10.0),
)
"""As in assistant.toml: name, share of the clients, seconds a step, steps, megabits a second up and down."""

LOOKAHEAD = 8
"""Clients handed to a worker at once: few, so that a round has several cohorts."""


@dataclass(slots=True)
class Lap:
    """One round as it was measured."""

    steps: list[int] = field(default_factory=list)  # of each client, in the order of training
    wall: float = 0.0  # from opening to commit, s
    cpu: float = 0.0  # of the coordinator's process in that time, s
    inside: float = 0.0  # of these, in the trainer: training, or taking results from workers
    longest: float = 0.0  # CPU seconds of the worker that had most to do, summed over the calls; 0 without workers
    bytes_up: int = 0
    bytes_down: int = 0
    private: list[int] = field(default_factory=list)  # bytes of each worker that it shares with nobody

    @property
    def path(self) -> float:
        """CPU seconds from opening to commit where no process waits for a core: the wall time of a quiet machine."""
        return self.cpu + self.longest


def federate(clients: int, ask: int, rounds: int, workers: int) -> list[Lap]:
    """Run assistant.toml with so many clients; its rounds but the first, in which passes are still being measured."""
    from unittest.mock import patch

    from fedpeft import api
    from fedpeft.config import load_run_file
    from fedpeft.simulation import local
    from fedpeft.simulation.workers import open_trainer

    laps = [Lap()]
    began = (0.0, 0.0)

    def observe(event: Any) -> None:
        nonlocal began
        if event.kind == "round_opened":
            laps.append(Lap())
            began = time.perf_counter(), time.process_time()
        elif event.kind == "committed" and event.round:
            laps[-1].wall, laps[-1].cpu = time.perf_counter() - began[0], time.process_time() - began[1]
            laps[-1].bytes_up, laps[-1].bytes_down = event.payload["frame_up"], event.payload["frame_down"]

    @contextmanager
    def timed(*arguments: Any) -> Iterator[Any]:
        with open_trainer(*arguments) as (trainer, count):
            yield _Timed(trainer, laps), count

    with tempfile.TemporaryDirectory() as folder, patch.object(local, "open_trainer", timed):
        overrides = {
            "run.folder": folder, "run.rounds": rounds, "devices": device_tables(clients), "round.ask": ask,
            "engine.workers": workers, "engine.lookahead": LOOKAHEAD, "evaluation.centralised": False,
            "codec.up": "int8", "evaluation.clients": False, "evaluation.every": rounds, "evaluation.test_examples": 50,
        }  # fmt: skip
        api.run(load_run_file(RUN_FILE, overrides), observers=[observe])
    return laps[2:]


class _Timed:
    """A trainer whose time is taken."""

    def __init__(self, trainer: Any, laps: list[Lap]) -> None:
        self.trainer = trainer
        self.laps = laps

    def run(self, jobs: Sequence[Any]) -> Iterator[Any]:
        lap = self.laps[-1]
        lap.steps += [job.plan.steps for job in jobs]
        workshop = getattr(self.trainer, "workshop", None)
        workers = [worker.process.pid for worker in workshop.workers] if workshop is not None else []
        before = [cpu_seconds(process) for process in workers]
        began = time.process_time()
        results = list(self.trainer.run(jobs))  # the agent takes all of them before it goes on
        lap.inside += time.process_time() - began
        spent = [cpu_seconds(process) - then for process, then in zip(workers, before, strict=True)]
        lap.longest += max(spent, default=0.0)
        lap.private = [private_bytes(process) for process in workers]
        yield from results


def cpu_seconds(process: int) -> float:
    """CPU time of a process so far, to the nanosecond (Linux)."""
    return int(Path(f"/proc/{process}/schedstat").read_text(encoding="ascii").split()[0]) / 1e9


def private_bytes(process: int) -> int:
    """Memory of a process that it shares with no other (Linux)."""
    lines = Path(f"/proc/{process}/smaps_rollup").read_text(encoding="ascii").splitlines()
    return sum(1024 * int(line.split()[1]) for line in lines if line.startswith("Private_"))


def device_tables(clients: int) -> list[dict[str, Any]]:
    """`[[devices]]` of assistant.toml for so many clients."""
    counts = [round(share * clients) for _, share, *_ in CLASSES]
    counts[1] += clients - sum(counts)
    return [
        {"name": name, "clients": count, "step_seconds": seconds, "steps": steps, "up_mbps": up, "down_mbps": down}
        for (name, _, seconds, steps, up, down), count in zip(CLASSES, counts, strict=True)
    ]


def know_many(clients: int, ask: int, rounds: int = 3) -> dict[str, float]:
    """A federation of so many clients, all with the same five examples, that trains nothing."""
    from unittest.mock import patch

    import peft
    import torch

    from fedpeft import simulate
    from fedpeft.bench.memory import resident
    from fedpeft.simulation import local
    from simulations.benchmarks.tiny_task import Idle

    torch.set_num_threads(1)
    torch.manual_seed(0)
    items = [(row, int(row[0] > 0)) for row in torch.randn(5, 16)]
    stamps: dict[tuple[str, int | None], tuple[float, int]] = {}

    def observe(event: Any) -> None:
        if event.kind in ("run_started", "committed", "round_opened", "hello"):
            stamps[event.kind, event.round] = time.process_time(), resident()

    model = torch.nn.Sequential(torch.nn.Linear(16, 16), torch.nn.Tanh(), torch.nn.Linear(16, 2))
    size = 2 * (16 + 16) + 2 * (16 + 2)  # of the adapter: rank 2 on both layers

    @contextmanager
    def idle(*arguments: Any) -> Iterator[Any]:
        yield Idle(size), 1

    with tempfile.TemporaryDirectory() as folder, patch.object(local, "open_trainer", idle):
        simulate(
            model=model,
            peft_config=peft.LoraConfig(r=2, target_modules=["0", "2"]),
            clients={f"c{number:07d}": items for number in range(clients)},
            loss=lambda model, batch: torch.nn.functional.cross_entropy(model(batch[0]), batch[1], reduction="none"),
            rounds=rounds,
            ask=ask,
            options={
                "run.folder": folder,
                "evaluation.centralised": False,
                "evaluation.clients": False,
                "local.steps": 1,
                "local.batch_size": 5,
                "engine.wire": False,
            },
            observers=[observe],
        )
    opening = [stamps["round_opened", n][0] - stamps["committed", n - 1][0] for n in range(2, rounds + 1)]
    (hello, held), (began, _), (_, before) = stamps["hello", None], stamps["committed", 0], stamps["run_started", None]
    return {
        "clients": clients,
        "ask": ask,
        "round": median(opening),
        "hello": (hello - began) / clients,
        "bytes": (held - before) / clients,
    }


def one_step_jobs(repeats: int) -> dict[str, list[float]]:
    """Wall seconds a job, on forked processes and on Ray in turn; and those until the actors are ready."""
    from fedpeft.config import load_run_file
    from fedpeft.simulation.federation import assemble
    from fedpeft.simulation.workers import SpreadTrainer
    from fedpeft.simulation.workers.on_ray import OnRay
    from fedpeft.simulation.workers.processes import Processes
    from fedpeft.training import TrainingJob
    from fedpeft.types import Plan

    federation = assemble(load_run_file(RUN_FILE))
    work = [
        TrainingJob(
            Plan("bench", 1, 1, client, seed=number, steps=1, batch_size=1, learning_rate=1e-3),
            federation.initial,
            federation.train[client],
        )
        for number in range(8)
        for client in federation.train
    ]
    began = time.perf_counter()
    found: dict[str, list[float]] = {"processes": [], "Ray actors": [], "start": []}
    with (
        SpreadTrainer(OnRay(federation.config, federation.trainer_choice.together, 2), 2, federation.trainer) as actors,
        SpreadTrainer(Processes(federation, fork=True), 2, federation.trainer) as processes,
    ):
        list(actors.run(work[:2]))
        found["start"].append(time.perf_counter() - began)
        contenders = {"processes": processes, "Ray actors": actors}
        for repeat in range(repeats + 1):
            for name, trainer in contenders.items():
                began = time.perf_counter()
                list(trainer.run(work))
                if repeat:
                    found[name].append((time.perf_counter() - began) / len(work))
    return found
