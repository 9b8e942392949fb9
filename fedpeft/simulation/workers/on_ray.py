"""Workers as actors of a Ray cluster (Moritz et al. 2018, "Ray: A Distributed Framework for Emerging AI Applications").

Each actor assembles the run file on its node, so fedpeft, the plug-ins, the model and the data that it names must be
there. Down go plans, the memory of each client half, and each distinct θ (and vector that came with it) once into the
object store, from which every node takes one copy; up come deltas as NumPy arrays, each as soon as it is done. The
coordinator, its journal and all clients' state stay here.

Nodes with other processors or library versions compute other bits: the adapter hash is that of one process only where
all nodes are alike.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np

from fedpeft.config import RunConfig, parse_config
from fedpeft.errors import RoundError
from fedpeft.simulation.workers.ray_cluster import connect, import_ray, short
from fedpeft.simulation.workers.workshop import (
    Crashed,
    Done,
    FaultParts,
    Lost,
    Ready,
    Rest,
    Said,
    StartBook,
    Steps,
    Worker,
    fault_of,
    fault_parts,
)
from fedpeft.training import TrainingJob, TrainingResult
from fedpeft.training.choice import TrainerChoice
from fedpeft.types import FloatArray, Plan

Outcome: TypeAlias = tuple[FloatArray | None, dict[str, float], FaultParts | None, dict[str, FloatArray]]
"""Delta, shape (d,), metrics and fault of a job, and what its client half sends."""

Request: TypeAlias = tuple[int, Plan, int, dict[str, int], dict[str, FloatArray]]
"""Place, plan, number of its start, numbers of what came with it, and its memory."""

Answer: TypeAlias = tuple[int, int, Outcome | None]
"""What an actor yields: the job's place, steps taken since the last answer, what came of it; None if it crashed."""


class Actor:
    """One worker on its node.

    Args:
        run_file: TOML, resolved.
        together: whether clients are trained together, as the coordinator's process found.
    """

    def __init__(self, run_file: str, together: bool) -> None:
        import torch

        from fedpeft.simulation.federation import assemble
        from fedpeft.simulation.workers.workbench import Workbench

        torch.set_num_threads(1)
        federation = assemble(parse_config(tomllib.loads(run_file), origin="run file of the coordinator"))
        federation.__dict__["trainer_choice"] = TrainerChoice(together)
        self.bench = Workbench(federation)
        self.starts: dict[int, Any] = {}

    def where(self) -> str:
        """Its node and process, for people."""
        return f"{os.uname().nodename}, process {os.getpid()}"

    def train(self, share: Sequence[Request], starts: Mapping[int, list[Any]]) -> Iterator[Answer]:
        """Train a share.

        Args:
            share: the jobs.
            starts: by number, those that may be asked for now; each a list of one reference, which Ray leaves alone.
        """
        import ray

        from fedpeft.simulation.workers.workbench import Order

        new = [number for number in starts if number not in self.starts]
        fetched = dict(zip(new, ray.get([starts[number][0] for number in new]), strict=True))
        self.starts = {number: fetched.get(number, self.starts.get(number)) for number in starts}
        orders = [
            Order(place, plan, self.starts[start], {name: self.starts[number] for name, number in came.items()}, memory)
            for place, plan, start, came, memory in share
        ]
        for said in self.bench.train(orders):
            steps, self.bench.steps = self.bench.steps, 0
            yield said.place, steps, _outcome(said.result) if isinstance(said, Done) else None


class RayWorker:
    """One actor, as seen from here."""

    def __init__(self, ray: Any, number: int, actor: Any, book: StartBook, references: dict[int, Any]) -> None:
        self._ray = ray
        self._number = number
        self._actor = actor
        self._book = book
        self._references = references
        self._where = ""
        self._plans: dict[int, Plan] = {}
        self.pending: Any = actor.where.remote()  # what to wait for: a reference, a stream of them, or None at rest

    @property
    def name(self) -> str:
        """See `Worker`."""
        return f"worker {self._number}" + (f" ({self._where})" if self._where else "")

    def ask(self, share: Sequence[tuple[int, TrainingJob]]) -> None:
        """See `Worker`."""
        self._plans = {place: job.plan for place, job in share}
        number = self._book.number
        orders: list[Request] = [
            (place, job.plan, number(job.start), {k: number(v) for k, v in job.received.items()}, dict(job.memory))
            for place, job in share
        ]
        for new in self._book.numbers - self._references.keys():
            self._references[new] = self._ray.put(self._book[new])
        for old in self._references.keys() - self._book.numbers:
            del self._references[old]
        self.pending = self._actor.train.remote(orders, {number: [ref] for number, ref in self._references.items()})
        self._book.forget()

    def hear(self) -> list[Said]:
        """What it says next; waits for it."""
        try:
            if not self._where:
                self._where, self.pending = self._ray.get(self.pending), None
                return [Ready()]
            place, steps, outcome = self._ray.get(next(self.pending))
        except StopIteration:
            self.pending = None
            return [Rest()]
        except self._ray.exceptions.RayTaskError as error:  # the actor is well, but cannot do this at all
            raise RoundError(
                f"{self.name} cannot train: {error.cause}",
                code="engine.workers",
                remedy="install the same fedpeft, model and data on every node",
            ) from error
        except self._ray.exceptions.RayError as error:
            self.pending = None
            return [Lost(f"is gone: {short(error)}")]
        told: list[Said] = [Steps(steps)] if steps else []
        return [*told, Crashed(place) if outcome is None else Done(place, _result(self._plans[place], outcome))]

    def stop(self) -> None:
        """End it at once."""
        self._ray.kill(self._actor)


class OnRay:
    """A `Workshop` of Ray actors.

    Args:
        config: of the run; `[engine]` says which cluster.
        together: whether clients are trained together.
        workers: started on this machine if there is no cluster yet.

    Raises:
        ConfigError: Ray is not installed, or there is no cluster at the address.
    """

    def __init__(self, config: RunConfig, together: bool, workers: int) -> None:
        self._ray = import_ray(alone=not config.engine.address)
        self._starts_ray = not self._ray.is_initialized()  # else the user did, and ends it
        if self._starts_ray:
            connect(self._ray, config.engine.address, workers)
        self._actor = self._ray.remote(Actor).options(
            num_cpus=1, num_gpus=config.engine.gpus_per_worker, max_restarts=0, scheduling_strategy="SPREAD"
        )
        self._arguments = (config.to_toml(), together)
        self._book = StartBook()
        self._references: dict[int, Any] = {}
        self._workers: list[RayWorker] = []

    def start(self, number: int) -> Worker:
        """See `Workshop`. The actor waits for a free processor, on whichever node."""
        worker = RayWorker(self._ray, number, self._actor.remote(*self._arguments), self._book, self._references)
        self._workers.append(worker)
        return worker

    def listen(self) -> list[tuple[Worker, Said]]:
        """See `Workshop`."""
        talking = {worker.pending: worker for worker in self._workers if worker.pending is not None}
        ready, _ = self._ray.wait(list(talking), num_returns=1, fetch_local=False)
        worker = talking[ready[0]]
        return [(worker, said) for said in worker.hear()]

    def stop(self, worker: Worker) -> None:
        """See `Workshop`."""
        assert isinstance(worker, RayWorker)
        self._workers.remove(worker)
        worker.stop()

    def close(self) -> None:
        """See `Workshop`. A cluster that was started here ends too; from another one this process takes its leave."""
        while self._workers:
            self._workers.pop().stop()
        if self._starts_ray:
            self._ray.shutdown()


def _outcome(result: TrainingResult) -> Outcome:
    parts = None if result.fault is None else fault_parts(result.fault)
    return result.delta, result.metrics, parts, dict(result.sent)


def _result(plan: Plan, outcome: Outcome) -> TrainingResult:
    delta, metrics, parts, sent = outcome
    if delta is not None:
        delta = np.array(delta)  # a copy: what Ray gives is read-only, and holds on to the object store
    own = {name: np.array(vector) for name, vector in sent.items()}
    return TrainingResult(plan, delta, metrics, None if parts is None else fault_of(parts), own)
