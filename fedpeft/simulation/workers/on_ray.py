"""Workers as actors of a Ray cluster (Moritz et al. 2018, "Ray: A Distributed Framework for Emerging AI Applications").

Each actor assembles the run file on its node, so fedpeft, the plug-ins, the model and the data that it names must be
there. Down go plans, and each distinct θ once into the object store, from which every node takes one copy; up come
deltas as NumPy arrays, each as soon as it is done. The coordinator, its journal and all clients' state stay here.

Nodes with other processors or library versions compute other bits: the adapter hash is that of one process only where
all nodes are alike.
"""

from __future__ import annotations

import os
import socket
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np

from fedpeft.config import RunConfig, parse_config
from fedpeft.errors import ConfigError, RoundError
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

Outcome: TypeAlias = tuple[FloatArray | None, dict[str, float], FaultParts | None]
"""Delta, shape (d,), metrics and fault of a job."""

Answer: TypeAlias = tuple[int, int, Outcome | None]
"""What an actor yields: the job's place, steps taken since the last answer, what came of it; None if it crashed."""

STORE_BYTES = 500_000_000
"""Size of the object store of a cluster that is started here: deltas stay in it for moments only."""

SHORT = 250
"""Characters of Ray's errors that are passed on."""

KNOCK = 10.0
"""Seconds that a cluster may take to accept a connection."""


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

    def train(self, share: Sequence[tuple[int, int, Plan]], starts: Mapping[int, list[Any]]) -> Iterator[Answer]:
        """Train a share of (place, number of its start, plan).

        Args:
            share: the jobs.
            starts: by number, those that may be asked for now; each a list of one reference, which Ray leaves alone.
        """
        import ray

        new = [number for number in starts if number not in self.starts]
        fetched = dict(zip(new, ray.get([starts[number][0] for number in new]), strict=True))
        self.starts = {number: fetched.get(number, self.starts.get(number)) for number in starts}
        for said in self.bench.train([(place, plan, self.starts[number]) for place, number, plan in share]):
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
        orders = [(place, self._book.number(job.start), job.plan) for place, job in share]
        for number in self._book.numbers - self._references.keys():
            self._references[number] = self._ray.put(self._book[number])
        for number in self._references.keys() - self._book.numbers:
            del self._references[number]
        self.pending = self._actor.train.remote(orders, {number: [ref] for number, ref in self._references.items()})

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
            return [Lost(f"is gone: {_short(error)}")]
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
        self._ray = _ray(alone=not config.engine.address)
        self._starts_ray = not self._ray.is_initialized()  # else the user did, and ends it
        if self._starts_ray:
            _connect(self._ray, config.engine.address, workers)
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


def _ray(*, alone: bool) -> Any:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # read when Ray is imported
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # what will be the default; else Ray warns of it
    if alone:  # nothing else keeps Ray's servers off the network on Linux (ray._private.services.get_node_ip_address)
        os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
    try:
        import ray
    except ImportError as error:
        raise ConfigError(
            'engine.name = "ray" needs Ray, which is not installed',
            code="config.no-ray",
            allowed='engine.name = "local", with as many engine.workers as there are cores',
            remedy="pip install 'fedpeft[ray]'",
        ) from error
    return ray


def _connect(ray: Any, address: str, workers: int) -> None:
    quiet = {"log_to_driver": False, "logging_level": "ERROR"}
    try:
        if address:
            _knock(address)
            ray.init(address=address, **quiet)
        else:
            ray.init(
                num_cpus=workers,
                include_dashboard=False,
                object_store_memory=STORE_BYTES,
                _node_ip_address="127.0.0.1",
                **quiet,
            )
    except (OSError, RuntimeError, ValueError) as error:  # a ConnectionError is an OSError
        raise ConfigError(
            f'engine.address = "{address}": there is no Ray cluster: {_short(error)}',
            code="config.no-cluster",
            allowed='"" to start one on this machine, "auto" for the one that runs here, or ray://HOST:10001',
            remedy="start it with `ray start --head`, or correct the address",
        ) from error


def _knock(address: str) -> None:
    """See whether anybody listens at the address: Ray would try for minutes.

    Raises:
        OSError: nobody does.
    """
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if colon and port.isdecimal():
        socket.create_connection((host.strip("[]"), int(port)), timeout=KNOCK).close()


def _outcome(result: TrainingResult) -> Outcome:
    return result.delta, result.metrics, None if result.fault is None else fault_parts(result.fault)


def _result(plan: Plan, outcome: Outcome) -> TrainingResult:
    delta, metrics, parts = outcome
    if delta is not None:
        delta = np.array(delta)  # a copy: what Ray gives is read-only, and holds on to the object store
    return TrainingResult(plan, delta, metrics, None if parts is None else fault_of(parts))


def _short(error: BaseException) -> str:
    """The end of what Ray has to say, which names the cause."""
    text = " ".join(str(error).split())
    return text if len(text) <= SHORT else "..." + text[-SHORT:]
