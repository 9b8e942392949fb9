"""The contract between who hands out work (`SpreadTrainer`) and where it is done: processes here, or actors on Ray.

A worker is started, says `Ready`, and from then on is asked for one share of jobs at a time: it says `Done` or
`Crashed` once a job, in any order, and `Rest` when the share is finished. One that is `Lost` says nothing more.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias

import numpy as np

from fedpeft.errors import ClientFault
from fedpeft.training import TrainingJob, TrainingResult
from fedpeft.types import FloatArray


@dataclass(frozen=True, slots=True)
class Ready:
    """The worker has model and data."""


@dataclass(frozen=True, slots=True)
class Steps:
    """So many optimizer steps were taken since it last said so, over all its clients."""

    count: int


@dataclass(frozen=True, slots=True)
class Done:
    """What came of the job at `place`."""

    place: int
    result: TrainingResult


@dataclass(frozen=True, slots=True)
class Crashed:
    """The job at `place` raised something that is no `ClientFault`; the worker is well."""

    place: int


@dataclass(frozen=True, slots=True)
class Rest:
    """The share is finished."""


@dataclass(frozen=True, slots=True)
class Lost:
    """The worker is gone."""

    reason: str


Said: TypeAlias = Ready | Steps | Done | Crashed | Rest | Lost


class Worker(Protocol):
    """One worker, as seen from here."""

    @property
    def name(self) -> str:
        """For people, e.g. `worker 2 (process 4711)`."""

    def ask(self, share: Sequence[tuple[int, TrainingJob]]) -> None:
        """Hand over jobs, each with its place. Only to a worker that is ready and at rest.

        A job's data stays here: the worker trains on what it holds itself under the plan's client.
        """


class Workshop(Protocol):
    """Where workers live."""

    def start(self, number: int) -> Worker:
        """Start a worker; it is not ready yet.

        Args:
            number: from 1, for its name.
        """

    def listen(self) -> list[tuple[Worker, Said]]:
        """What workers that were started have to say; waits until one has."""

    def stop(self, worker: Worker) -> None:
        """End a worker at once, whatever it is doing; it is not listened to any more."""

    def close(self) -> None:
        """End all of them."""


KEPT = 16
"""Vectors that outlive the request which brought them: the next one mostly begins where the last one did."""


class StartBook:
    """Numbers for the distinct θ that jobs start from, so that each is sent to a worker once and not once a job."""

    def __init__(self) -> None:
        self._starts: dict[int, FloatArray] = {}  # in the order of their last use
        self._next = 0

    def number(self, start: FloatArray) -> int:
        """The number of `start`, shape (d,); equal vectors have the same."""
        for number, known in reversed(self._starts.items()):
            if np.array_equal(known, start):
                self._starts[number] = self._starts.pop(number)
                return number
        self._next += 1
        self._starts[self._next] = np.array(start, dtype=np.float32)  # a copy: the caller may change its own
        return self._next

    def __getitem__(self, number: int) -> FloatArray:
        """The start of that number, shape (d,)."""
        return self._starts[number]

    @property
    def numbers(self) -> set[int]:
        """Those that may still be asked for."""
        return set(self._starts)

    def forget(self) -> None:
        """Drop all but those used last. A worker that was sent one keeps it until it is asked for something else."""
        for number in list(self._starts)[:-KEPT]:
            del self._starts[number]


FaultParts: TypeAlias = tuple[str, str, str | None, str | None]
"""Message, code, what is allowed, remedy: how a fault travels."""


def fault_parts(fault: ClientFault) -> FaultParts:
    """Take a fault apart."""
    return fault.message, fault.code, fault.allowed, fault.remedy


def fault_of(parts: FaultParts) -> ClientFault:
    """The fault that `fault_parts` took apart."""
    message, code, allowed, remedy = parts
    return ClientFault(message, code=code, allowed=allowed, remedy=remedy)
