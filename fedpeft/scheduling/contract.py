"""The contract of a scheduler (registry kind `scheduler`): which arm a client gets, and what is learned of it.

    choose(request) -> choice    once per client and round; changes nothing
    observe(outcomes)            once per commit: all that came of it, in client order

`choose` draws from the request's own seed and leaves the scheduler as it was, so a round that is attempted again
starts from what was known before it, and a resumed run makes the choices that it would have made.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from fedpeft.randomness.streams import Stream, derive
from fedpeft.scheduling.arms import Grid
from fedpeft.types import ClientId


@dataclass(frozen=True, slots=True)
class ClassTimes:
    """What a simulation knows of a device class beforehand."""

    clients: int  # devices of the class
    seconds: tuple[float, ...]  # expected, from asking to the answer, of each arm by place
    fits: tuple[int, ...] | None = None  # places of the arms that fit its memory; None: all


class Load(NamedTuple):
    """What an arm has a client do, whoever it is."""

    megabytes: float  # of its update
    steps: float  # of the whole model at full rank that its computing comes to


@dataclass(frozen=True, slots=True)
class Setting:
    """What a scheduler is told of its run."""

    grid: Grid
    slowness: float = 2.0  # β of the reward
    synchronous: bool = True  # whether a round waits for its slowest client
    times: Mapping[str, ClassTimes] | None = None  # by device class; None where devices are real
    loads: tuple[Load, ...] = ()  # what each arm has a client do, by place; empty: not told
    deadline_s: float | None = None  # D: whoever takes longer is not waited for; None: not told

    @property
    def loads_or_guess(self) -> tuple[Load, ...]:
        """`loads`; where nobody told them, bytes that go with rank, and steps of the share that is kept."""
        return self.loads or tuple(
            Load(1e-3 * arm.rank * (1.0 - arm.pruning), arm.steps * (1.0 - arm.pruning)) for arm in self.grid.arms
        )


@dataclass(frozen=True, slots=True)
class Request:
    """A client that needs an arm."""

    client: ClientId
    device: str  # its device class: like devices share what is learned
    round: int  # from 1
    seed: int  # uint64, of this client and round; the only source of chance
    offered: tuple[int, ...]  # places of the arms that fit it, ascending, at least one
    out: Mapping[int, int] = field(default_factory=dict)  # place -> like devices that are at work on it now

    def stream(self) -> Stream:
        """Randomness of this choice."""
        return Stream(derive(self.seed, "scheduler"))


@dataclass(frozen=True, slots=True)
class Choice:
    """An arm for a client."""

    place: int  # one of those offered
    why: str  # a few words for the journal
    probability: float = 1.0  # with which it was drawn, > 0; 1 where there was no draw


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a choice."""

    client: ClientId
    device: str
    place: int
    probability: float  # as the choice said
    reward: float | None  # in [0, 1]; see `fedpeft.scheduling.reward`; None: nobody could judge it, its seconds count
    seconds: float | None = None  # from asking to the answer; None: not back at the deadline
    gain: float | None = None  # as the reward's, not divided by what is usual; None: not told
    offered: tuple[int, ...] = ()  # places of the arms that fitted its client then; empty: not told


class Scheduler(ABC):
    """Chooses arms. Subclass, write `choose`, and name the class in a run file: `scheduler.name = "my/rule.py:Frugal"`.

    >>> from fedpeft.types import ClientId
    >>> class Frugal(Scheduler):
    ...     '''The first arm that fits, until its rewards are poor; then the last.'''
    ...     def begin(self, setting):
    ...         super().begin(setting)
    ...         self.poor = False
    ...     def choose(self, request):
    ...         return Choice(request.offered[-1 if self.poor else 0], "poor" if self.poor else "frugal")
    ...     def observe(self, outcomes):
    ...         rewards = [outcome.reward for outcome in outcomes if outcome.reward is not None]
    ...         self.poor = self.poor or min(rewards, default=1.0) < 0.2
    ...     def state(self):
    ...         return {"poor": self.poor}
    ...     def restore(self, state):
    ...         self.poor = bool(state["poor"])
    >>> rule = Frugal()
    >>> rule.begin(Setting(Grid(ranks=(2, 8), ratios=(0.0,), codecs=("int8",), steps=(4,))))
    >>> request = Request(ClientId("c00"), "phone", round=1, seed=7, offered=(0, 1))
    >>> rule.choose(request)
    Choice(place=0, why='frugal', probability=1.0)
    >>> rule.observe([Outcome(ClientId("c00"), "phone", 0, 1.0, reward=0.1)])
    >>> rule.choose(request).place
    1
    """

    needs_times: bool = False
    """Whether `begin` must be told the times of every arm: only a simulated fleet knows them."""

    needs_judges: bool = True
    """Whether it learns of gains, so that some of each cohort must train the whole model for others to be judged."""

    grid: Grid

    def begin(self, setting: Setting) -> None:
        """Be told the arms, before anything else.

        Raises:
            ValueError: a parameter does not fit the grid; says which.
        """
        self.grid = setting.grid

    @abstractmethod
    def choose(self, request: Request) -> Choice:
        """An arm among those offered. Depends on the request and on what was observed, and changes nothing."""

    def observe(self, outcomes: Sequence[Outcome]) -> None:  # noqa: B027 (some learn nothing)
        """Learn from one commit, or from the deadlines missed in an attempt that came short.

        Args:
            outcomes: in client order, each choice at most once.
        """

    def state(self) -> dict[str, Any]:
        """What was learned, as JSON values with finite numbers; empty when there is nothing."""
        return {}

    def restore(self, state: Mapping[str, Any]) -> None:  # noqa: B027
        """Go on from what `state` returned. Called after `begin`."""
