"""A trainer that hands its jobs out to workers, and gives those of a worker that died to another.

A share is lost with its worker, and nobody knows which of its clients was at fault, if any. So each unfinished job of a
lost share is asked for once more, alone; a worker that dies of such a job dies of that client, who is named.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from fedpeft.errors import ClientFault, RoundError
from fedpeft.simulation.workers.shares import cut, expected_work
from fedpeft.simulation.workers.workshop import Crashed, Done, Lost, Ready, Rest, Said, Steps, Worker, Workshop
from fedpeft.training import Trainer, TrainingJob, TrainingResult
from fedpeft.types import Plan

FALSE_STARTS = 3
"""Workers that may die in a row before one of them gets ready."""

DEATHS = 2
"""Workers that may die of a job before its client is at fault."""


@dataclass(slots=True)
class _Seat:
    """One worker and what it was asked for."""

    number: int
    worker: Worker
    ready: bool = False
    places: set[int] = field(default_factory=set)  # asked for and not told of yet
    resting: bool = True


@dataclass(slots=True)
class _Call:
    """One call of `run`."""

    jobs: Sequence[TrainingJob]
    todo: deque[list[int]]  # shares that no worker has yet
    done: dict[int, TrainingResult | None] = field(default_factory=dict)  # None: it crashed
    deaths: dict[int, int] = field(default_factory=dict)  # place -> workers that died over it


class SpreadTrainer:
    """`Trainer` over several workers. Call `close`, or use it as a context.

    The data of a job is what the workers hold under its client's name; it is not sent.

    Args:
        workshop: where the workers live; closed with this trainer.
        workers: how many.
        home: makes a trainer in this process. A job that crashes on a worker is trained here again, alone, so that
            whatever it raises is raised here as if there were no workers.
        on_step: called after each optimizer step of a client, a little later than it was taken.
        tell: called with a sentence about each worker that was lost.

    Raises:
        RoundError: workers die before they are ready, or cannot train at all (raised by `run`).
    """

    def __init__(
        self,
        workshop: Workshop,
        workers: int,
        home: Callable[[], Trainer],
        on_step: Callable[[], None] | None = None,
        tell: Callable[[str], None] = lambda sentence: None,
    ) -> None:
        self.workshop = workshop
        self.on_step = on_step
        self.tell = tell
        self._make_home = home
        self._home: Trainer | None = None
        self._false_starts = 0
        self._broken: RoundError | None = None  # no worker can be had: nothing is tried again
        self._seats = [_Seat(number, workshop.start(number)) for number in range(1, workers + 1)]

    def __enter__(self) -> SpreadTrainer:
        """This trainer."""
        return self

    def __exit__(self, *exception: object) -> None:
        """End the workers."""
        self.close()

    def close(self) -> None:
        """End the workers."""
        self._seats.clear()
        self.workshop.close()

    def run(self, jobs: Sequence[TrainingJob]) -> Iterator[TrainingResult]:
        """See `Trainer.run`."""
        if self._broken is not None:
            raise self._broken
        shares = cut([expected_work(job) for job in jobs], len(self._seats))
        call = _Call(jobs, deque(shares))
        try:
            for following in range(len(jobs)):
                while following not in call.done:
                    self._hand_out(call)
                    for worker, said in self.workshop.listen():
                        self._take(call, self._seat(worker), said)
                result = call.done.pop(following)
                yield result if result is not None else self._at_home(jobs[following])
        except RoundError as error:
            self._broken = error
            self.close()
            raise
        finally:
            for seat in self._seats:
                if seat.places:  # nobody waits for these results any more
                    self._replace(seat)

    def _seat(self, worker: Worker) -> _Seat:
        return next(seat for seat in self._seats if seat.worker is worker)

    def _hand_out(self, call: _Call) -> None:
        for seat in self._seats:
            if call.todo and seat.ready and seat.resting:
                share = call.todo.popleft()
                seat.resting, seat.places = False, set(share)
                seat.worker.ask([(place, call.jobs[place]) for place in share])

    def _take(self, call: _Call, seat: _Seat, said: Said) -> None:
        match said:
            case Ready():
                seat.ready, self._false_starts = True, 0
            case Steps(count):
                for _ in range(count if self.on_step is not None else 0):
                    self.on_step()  # type: ignore[misc]
            case Done(place, result):
                seat.places.discard(place)
                call.done[place] = result
            case Crashed(place):
                seat.places.discard(place)
                call.done[place] = None
            case Rest():
                seat.resting = True
            case Lost(reason):
                self._lost(call, seat, reason)

    def _lost(self, call: _Call, seat: _Seat, reason: str) -> None:
        if not seat.ready:
            self._false_starts += 1
            if self._false_starts >= FALSE_STARTS:
                raise RoundError(
                    f"{seat.worker.name} could not be started: {reason}",
                    code="engine.workers",
                    remedy='look at what it printed, or set engine.workers = 1 (and engine.name = "local")',
                )
        unfinished = sorted(seat.places)
        for place in unfinished:
            deaths = call.deaths[place] = call.deaths.get(place, 0) + 1
            if deaths >= DEATHS:
                call.done[place] = TrainingResult(call.jobs[place].plan, fault=_killed(call.jobs[place].plan, reason))
            else:
                call.todo.append([place])
        clients = f"; its {len(unfinished)} unfinished clients are trained anew" if unfinished else ""
        self.tell(f"{seat.worker.name} {reason}{clients}")
        self._replace(seat)

    def _replace(self, seat: _Seat) -> None:
        self.workshop.stop(seat.worker)
        seat.worker = self.workshop.start(seat.number)
        seat.ready, seat.resting, seat.places = False, True, set()

    def _at_home(self, job: TrainingJob) -> TrainingResult:
        if self._home is None:
            self._home = self._make_home()
        (result,) = self._home.run([job])
        return result


def _killed(plan: Plan, reason: str) -> ClientFault:
    return ClientFault(
        f"client {plan.client}: the worker that trained it {reason}, twice, round {plan.round}",
        code="engine.worker-died",
        allowed="training that leaves its process alive",
        remedy="look at this client's data: it may need more memory than there is, or crash a library",
    )
