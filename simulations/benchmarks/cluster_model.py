"""A discrete-event model of a round: on W workers of a simulation, and on real devices. Pure Python, no clock.

One coordinator takes messages one after the other. In a simulation it hands cohorts to workers, waits for all results
of a cohort, and then does for each client what the client's own agent and the coordinator would do (encode, frame,
guard, fold, journal), which is `serial`. Deployed, a reply comes off the coordinator's network line, then it is folded.

>>> costs = Costs(step=1.0, serial=0.5, message=0.0, round=2.0)
>>> simulated_round([3, 3, 3, 3], 1, costs, lookahead=4).seconds  # 2 + 4 x 3 x 1 + 4 x 0.5
16.0
>>> simulated_round([3, 3, 3, 3], 4, costs, lookahead=4).seconds
7.0
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from fedpeft.simulation.workers.shares import cut


@dataclass(frozen=True, slots=True)
class Costs:
    """Measured constants, in seconds."""

    step: float  # of one worker, for a client's optimizer step
    serial: float  # of the coordinator's process, for a client, all but training
    message: float  # of the coordinator's process, for taking a client's result from a worker
    round: float  # of the coordinator's process, for a round, whatever its cohort


@dataclass(frozen=True, slots=True)
class RoundTime:
    """What a round took, and which part of that time each side worked."""

    seconds: float
    workers_busy: float  # share, mean over the workers
    coordinator_busy: float  # share


@dataclass(slots=True)
class _Events:
    """What will happen, in the order of time."""

    now: float = 0.0
    _heap: list[tuple[float, int, Any]] = field(default_factory=list)
    _count: int = 0

    def at(self, time: float, what: Any) -> None:
        self._count += 1
        heapq.heappush(self._heap, (time, self._count, what))

    def __iter__(self) -> _Events:
        return self

    def __next__(self) -> Any:
        if not self._heap:
            raise StopIteration
        self.now, _, what = heapq.heappop(self._heap)
        return what


def simulated_round(
    steps: Sequence[int], workers: int, costs: Costs, *, lookahead: int, pipelined: bool = False
) -> RoundTime:
    """A round of a simulation.

    Args:
        steps: of each client, in the order in which their replies fall due.
        workers: of equal speed.
        costs: measured.
        lookahead: clients handed to a worker at once.
        pipelined: as if the next cohort were handed out while the coordinator takes up this one; fedpeft does not.
    """
    size = lookahead * workers
    cohorts = deque(list(steps[begin : begin + size]) for begin in range(0, len(steps), size))
    events = _Events()
    out: dict[int, int] = {}  # shares of a cohort that are still being trained
    free, worked, trained = costs.round, costs.round, 0.0  # the coordinator is free from then on
    free_workers = [0.0] * workers
    number = 0

    def hand_out(begin: float) -> None:
        nonlocal number, trained
        cohort = cohorts.popleft()
        shares = cut([float(count) for count in cohort], workers)
        out[number] = len(shares)
        for worker, share in enumerate(shares):
            took = costs.step * sum(cohort[place] for place in share)
            trained += took
            free_workers[worker] = max(begin, free_workers[worker]) + took
            events.at(free_workers[worker], (number, len(share)))
        number += 1

    waiting: dict[int, int] = {}  # clients of a cohort whose results are here
    if cohorts:
        hand_out(free)
    for cohort, clients in events:
        took = clients * costs.message
        free = max(free, events.now) + took
        worked += took
        waiting[cohort] = waiting.get(cohort, 0) + clients
        out[cohort] -= 1
        if out[cohort]:
            continue
        if pipelined and cohorts:
            hand_out(free)
        took = waiting.pop(cohort) * costs.serial
        free, worked = free + took, worked + took
        if not pipelined and cohorts:
            hand_out(free)
    return RoundTime(free, trained / workers / free, worked / free)


def deployed_round(replies: Sequence[float], *, bytes_up: float, line: float, fold: float) -> RoundTime:
    """A round on real devices, from the first frame sent to the last update folded.

    Args:
        replies: when each device has sent all of its reply over its own line, in seconds.
        bytes_up: of a reply.
        line: the coordinator's own, in bytes a second, shared by all.
        fold: seconds of the coordinator for one update.
    """
    events = _Events()
    for sent in replies:
        events.at(sent, "sent")
    line_free = coordinator_free = worked = 0.0
    for what in events:
        if what == "sent":
            line_free = max(line_free, events.now) + bytes_up / line
            events.at(line_free, "here")
        else:
            coordinator_free = max(coordinator_free, events.now) + fold
            worked += fold
    return RoundTime(coordinator_free, 0.0, worked / coordinator_free)
