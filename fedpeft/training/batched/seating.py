"""The loop that every trainer of many clients runs: seats are taken by jobs, passes work on them, results leave in the
order of the jobs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import numpy as np

from fedpeft.training.batched.seat import Seat
from fedpeft.training.trainer import TrainingJob, TrainingResult
from fedpeft.types import FloatArray

SeatType = TypeVar("SeatType", bound=Seat)


def seated(
    jobs: Sequence[TrainingJob],
    most: int,
    sit: Callable[[int, TrainingJob], SeatType | TrainingResult],
    work: Callable[[Sequence[SeatType]], None],
    leave: Callable[[SeatType], None] = lambda seat: None,
) -> Iterator[TrainingResult]:
    """One result a job, in the order of the jobs.

    Args:
        jobs: to be done.
        most: clients at work at a time.
        sit: (the job's place, job) -> its seat with the first batch fetched, or a result where there is nothing to do.
        work: one pass over some of the seats; a seat that is done has no batch.
        leave: called with each seat that is done.

    Raises:
        Exception: what a client's data raised, when the results of the jobs before it have been taken.
    """
    waiting = iter(enumerate(jobs))
    seats: list[SeatType] = []
    done: dict[int, SeatType | TrainingResult] = {}
    following, end = 0, len(jobs)
    while following < len(jobs):
        while len(seats) < most and end == len(jobs) and (entry := next(waiting, None)) is not None:
            seat = sit(*entry)
            if isinstance(seat, TrainingResult):
                done[entry[0]] = seat
            else:
                seats.append(seat)
        work(seats)
        for seat in [seat for seat in seats if seat.batch is None]:
            leave(seat)
            done[seat.order] = seat
            if seat.error is not None:  # it is raised in its turn, when the jobs before it are done
                end = min(end, seat.order)
        seats = [seat for seat in seats if seat.batch is not None and seat.order < end]
        while following in done:
            ended = done.pop(following)
            yield ended if isinstance(ended, TrainingResult) else ended.result()
            following += 1


class PreparedStarts:
    """What a task prepared for the last four θ that jobs started from: the clients of one broadcast share it.

    Args:
        prepare: θ, shape (d,) -> what the task prepares from it.
    """

    def __init__(self, prepare: Callable[[FloatArray], Any]) -> None:
        self._prepare = prepare
        self._known: list[tuple[FloatArray, Any]] = []

    def of(self, theta: FloatArray) -> Any:
        """For θ, shape (d,)."""
        for start, prepared in self._known:
            if start is theta or np.array_equal(start, theta):
                return prepared
        prepared = self._prepare(theta)
        self._known = [(theta.copy(), prepared), *self._known[:3]]
        return prepared
