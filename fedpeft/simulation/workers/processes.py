"""Workers as processes of this machine, over pipes.

Where a process can be forked it shares the parent's model and data, page by page, until one of them writes there. Where
it cannot, a worker assembles the run file itself.

What travels: a JSON header, then vectors as raw little-endian float32. Down: plans, each distinct θ (and vector that
came with it) once a worker, and the memory of each client half. Up: deltas, and what client halves send. A worker ends
when its pipe does, in the middle of a step if need be: it never outlives a parent that was killed.
"""

from __future__ import annotations

import gc
import json
import multiprocessing
import os
import queue
import signal
import sys
import threading
import time
import tomllib
import warnings
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import fields
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any
from weakref import WeakSet

import numpy as np
import torch

from fedpeft.config import parse_config
from fedpeft.simulation.federation import Federation, assemble
from fedpeft.simulation.workers.workbench import Order, Workbench
from fedpeft.simulation.workers.workshop import (
    Crashed,
    Done,
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
from fedpeft.types import ClientId, FloatArray, Plan

TOLD_EVERY = 0.1
"""Seconds between two messages that tell of steps."""

_ours: WeakSet[Connection] = WeakSet()
"""The parent's ends of all pipes. A forked worker closes its copies: else no pipe would end while a sibling lives."""


def can_fork() -> bool:
    """Whether workers are forked. A device that torch has touched, or may touch in a child, does not survive a fork."""
    return sys.platform == "linux" and not torch.cuda.is_available()


class ProcessWorker:
    """One process, as seen from the parent."""

    def __init__(self, number: int, process: BaseProcess, connection: Connection, starts: StartBook) -> None:
        self.process = process
        self.connection = connection
        self._number = number
        self._starts = starts
        self._holds: set[int] = set()  # numbers of the starts that were sent to it
        self._plans: dict[int, Plan] = {}

    @property
    def name(self) -> str:
        """See `Worker`."""
        return f"worker {self._number} (process {self.process.pid})"

    def ask(self, share: Sequence[tuple[int, TrainingJob]]) -> None:
        """See `Worker`. A worker that is gone is found out when it is listened to."""
        self._plans = {place: job.plan for place, job in share}
        starts = [self._starts.number(job.start) for _, job in share]
        received = [{name: self._starts.number(v) for name, v in job.received.items()} for _, job in share]
        self._holds &= self._starts.numbers
        new = sorted({*starts, *(number for one in received for number in one.values())} - self._holds)
        header = {
            "jobs": [
                [place, start, came, list(job.memory), _plain(job.plan)]
                for (place, job), start, came in zip(share, starts, received, strict=True)
            ],
            "keep": sorted(self._holds | set(new)),
            "new": new,
        }
        with suppress(OSError):
            self.connection.send_bytes(json.dumps(header).encode())
            for number in new:
                self.connection.send_bytes(_raw(self._starts[number]))
            for _, job in share:
                for vector in job.memory.values():
                    self.connection.send_bytes(_raw(vector))
        self._holds.update(new)
        self._starts.forget()

    def hear(self) -> Said:
        """The next thing that it says; waits for it."""
        try:
            said = json.loads(self.connection.recv_bytes())
            match said["said"]:
                case "ready":
                    return Ready()
                case "steps":
                    return Steps(said["count"])
                case "crashed":
                    return Crashed(said["place"])
                case "rest":
                    return Rest()
            delta = self._vector(said["size"]) if "size" in said else None
            sent = {name: self._vector(size) for name, size in said.get("sent", {}).items()}
            fault = None if said["fault"] is None else fault_of(said["fault"])
            result = TrainingResult(self._plans[said["place"]], delta, said["metrics"], fault, sent)
            return Done(said["place"], result)
        except (EOFError, OSError):
            return Lost(self._end())

    def _vector(self, size: int) -> FloatArray:
        vector = np.empty(size, dtype=np.float32)
        self.connection.recv_bytes_into(_raw(vector))
        return vector

    def _end(self) -> str:
        self.process.join(5.0)
        code = self.process.exitcode
        if code is None:
            return "closed its pipe"
        return f"was killed by signal {-code}" if code < 0 else f"ended with status {code}"

    def stop(self) -> None:
        """End it at once."""
        self.connection.close()
        self.process.kill()
        self.process.join()
        self.process.close()


class Processes:
    """A `Workshop` of processes.

    Args:
        federation: nothing in it has been trained yet.
        fork: whether workers share its model and data; else they assemble its run file.
    """

    def __init__(self, federation: Federation, *, fork: bool) -> None:
        self.federation = federation
        self.fork = fork
        self.starts = StartBook()
        self.workers: list[ProcessWorker] = []
        self._choice = federation.trainer_choice  # made once, here: all workers follow it

    def start(self, number: int) -> Worker:
        """See `Workshop`."""
        context = multiprocessing.get_context("fork" if self.fork else "spawn")
        here, there = context.Pipe()
        _ours.add(here)
        work: tuple[Callable[..., None], tuple[Any, ...]]
        if self.fork:
            work = (_forked, (there, self.federation))
        else:
            work = (_anew, (there, self.federation.config.to_toml(), self._choice.together))
        process: BaseProcess = context.Process(target=work[0], args=work[1], daemon=True)  # type: ignore[attr-defined]
        with warnings.catch_warnings():
            # Python 3.12 warns of any other thread, e.g. a progress bar's; a worker takes no lock that one may hold.
            warnings.simplefilter("ignore", DeprecationWarning)
            process.start()
        there.close()
        worker = ProcessWorker(number, process, here, self.starts)
        self.workers.append(worker)
        return worker

    def listen(self) -> list[tuple[Worker, Said]]:
        """See `Workshop`."""
        ready = wait([worker.connection for worker in self.workers])
        return [(worker, worker.hear()) for worker in self.workers if worker.connection in ready]

    def stop(self, worker: Worker) -> None:
        """See `Workshop`."""
        assert isinstance(worker, ProcessWorker)
        self.workers.remove(worker)
        worker.stop()

    def close(self) -> None:
        """See `Workshop`."""
        while self.workers:
            self.workers.pop().stop()


# In the worker's process


def _forked(connection: Connection, federation: Federation) -> None:
    for other in list(_ours):
        other.close()
    gc.freeze()  # the collector would write to every inherited object, and copy its page
    _serve(connection, federation)


def _anew(connection: Connection, run_file: str, together: bool) -> None:
    federation = assemble(parse_config(tomllib.loads(run_file), origin="run file of the parent process"))
    federation.__dict__["trainer_choice"] = TrainerChoice(together)  # the parent's, instead of trying again
    _serve(connection, federation)


def _serve(connection: Connection, federation: Federation) -> None:
    """Train what is asked for, until the pipe ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group: the parent decides
    torch.set_num_threads(1)  # more would wait for threads that were not forked
    try:
        bench = _TellingBench(connection, federation)
        inbox: queue.SimpleQueue[list[Order]] = queue.SimpleQueue()
        threading.Thread(target=_read, args=(connection, inbox), daemon=True).start()
        _say(connection, {"said": "ready"})
        while True:
            for said in bench.train(inbox.get()):
                bench.tell_steps()
                if isinstance(said, Crashed):
                    _say(connection, {"said": "crashed", "place": said.place})
                else:
                    _say_done(connection, said)
            _say(connection, {"said": "rest"})
    except OSError:  # the parent is gone
        os._exit(1)


class _TellingBench(Workbench):
    """Tells of its steps while it trains."""

    def __init__(self, connection: Connection, federation: Federation) -> None:
        self.connection = connection
        self.told = time.monotonic()
        super().__init__(federation)

    def _step(self) -> None:
        self.steps += 1
        if time.monotonic() - self.told > TOLD_EVERY:
            self.tell_steps()

    def tell_steps(self) -> None:
        if self.steps:
            _say(self.connection, {"said": "steps", "count": self.steps})
        self.steps, self.told = 0, time.monotonic()


def _read(connection: Connection, inbox: queue.SimpleQueue[list[Order]]) -> None:
    """Take requests off the pipe as they come, and end this process with it, whatever it is doing."""
    starts: dict[int, FloatArray] = {}
    try:
        while True:
            header = json.loads(connection.recv_bytes())
            for number in header["new"]:
                starts[number] = _received(connection)
            starts = {number: starts[number] for number in header["keep"]}
            orders = []
            for place, start, came, remembered, plan in header["jobs"]:
                received = {name: starts[number] for name, number in came.items()}
                memory = {name: _received(connection) for name in remembered}
                orders.append(Order(place, _plan(plan), starts[start], received, memory))
            inbox.put(orders)
    except (EOFError, OSError):
        os._exit(0)


def _received(connection: Connection) -> FloatArray:
    return np.frombuffer(bytearray(connection.recv_bytes()), dtype="<f4")


def _say(connection: Connection, said: dict[str, Any]) -> None:
    connection.send_bytes(json.dumps(said).encode())


def _say_done(connection: Connection, done: Done) -> None:
    result, fault = done.result, done.result.fault
    said: dict[str, Any] = {"said": "done", "place": done.place, "metrics": result.metrics, "fault": None}
    if fault is not None:
        said["fault"] = fault_parts(fault)
    if result.delta is None:
        _say(connection, said)
    else:
        sizes = {name: vector.size for name, vector in result.sent.items()}
        _say(connection, said | {"size": result.delta.size, "sent": sizes})
        for vector in (result.delta, *result.sent.values()):
            connection.send_bytes(_raw(vector))


# Both sides


_PLAN = [field.name for field in fields(Plan)]


def _plain(plan: Plan) -> dict[str, Any]:
    plain = {name: getattr(plan, name) for name in _PLAN}
    return plain | {"objective_params": dict(plan.objective_params), "mask": plan.mask.hex()}


def _plan(plain: dict[str, Any]) -> Plan:
    own = {"client": ClientId(plain["client"]), "mask": bytes.fromhex(plain["mask"]), "frozen": tuple(plain["frozen"])}
    return Plan(**(plain | own))


def _raw(vector: FloatArray) -> memoryview:
    """The bytes of a vector, not copied."""
    return np.ascontiguousarray(vector, dtype="<f4").data.cast("B")


__all__ = ["ProcessWorker", "Processes", "can_fork"]
