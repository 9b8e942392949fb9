"""The coordinator's side of `[scheduler]`: offer a client the arms that fit it, tell the scheduler what came of it.

    round opens -> fits? -> choose -> Plan ... reply or deadline -> commit: reward -> observe -> snapshot

Nothing that an attempt saw is learned before its round is committed, and then in client order: the order of arrival,
a crash and an attempt with too few replies leave no trace. A reply counts once, in the commit that folds it in; a reply
that is refused, or a device that fails, says nothing of its arm; a client that misses the deadline has reward 0.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from fedpeft.config import RunConfig
from fedpeft.errors import ConfigError, PluginError
from fedpeft.journal import EventKind, Journal
from fedpeft.randomness.streams import derive_seed
from fedpeft.registry import build
from fedpeft.scheduling import (
    Arm,
    Choice,
    ClassTimes,
    Grid,
    Load,
    Measured,
    Outcome,
    Reference,
    Request,
    Scheduler,
    Setting,
)
from fedpeft.scheduling.alignment import Look, alignments, sampled
from fedpeft.server.inflight import Asked
from fedpeft.types import ALL_COMPONENTS, ClientId, ClientInfo, Plan, Update


@dataclass(frozen=True, slots=True)
class SchedulingSettings:
    """What a coordinator with a scheduler needs beside the run file."""

    grid: Grid
    memory_mb: tuple[float, ...]  # that a client needs for each arm, by place
    full_rank: int = ALL_COMPONENTS  # an arm of this rank or more leaves no component out
    times: Mapping[str, ClassTimes] | None = None  # of a simulated fleet, by device class
    loads: tuple[Load, ...] = ()  # of each arm, by place; empty: not known

    def offered(self, memory_mb: int) -> tuple[int, ...]:
        """Places of the arms that fit into so much memory; 0, not told: all."""
        return tuple(place for place, need in enumerate(self.memory_mb) if not memory_mb or need <= memory_mb)


@dataclass(frozen=True, slots=True)
class Chosen:
    """A choice whose outcome is not known yet."""

    choice: Choice
    device: str


@dataclass(frozen=True, slots=True)
class Seen:
    """A choice, and what came of it in the open attempt."""

    asked: Asked
    chosen: Chosen
    seconds: float | None  # None: not back at the deadline
    look: Look | None = None  # None: no reply


class Scheduling:
    """The scheduler of a run, what it has out, and what the open attempt has seen.

    Args:
        config: of a run with a `[scheduler]`.
        settings: of the coordinator.
        journal: open for writing.
    """

    def __init__(self, config: RunConfig, settings: SchedulingSettings, journal: Journal) -> None:
        assert config.scheduler is not None
        self.table = config.scheduler
        self.seed = config.run.seed
        self.settings = settings
        self.journal = journal
        self.scheduler = load_scheduler(config, settings.grid, settings.times, settings.loads)
        self.reference = Reference()
        self._out: dict[tuple[int, int, ClientId], Chosen] = {}  # by round, attempt, client
        self._at_work: dict[str, Counter[int]] = {}  # device class -> place -> how many are out with it
        self._seen: list[Seen] = []
        self._places: npt.NDArray[np.int64] | None = None  # coordinates that alignment looks at
        self._size = 0  # d
        self._fits: dict[int, tuple[int, ...]] = {}  # megabytes -> places of the arms that fit into them
        self._sitting: set[ClientId] = set()  # too small for any arm, and recorded

    def open(self, busy: Collection[ClientId]) -> None:
        """Begin an attempt: what a failed one saw is forgotten, and so is who was out and is no more."""
        self._seen = []
        self._out = {key: chosen for key, chosen in self._out.items() if key[2] in busy}
        self._at_work = {}
        for chosen in self._out.values():
            self._at_work.setdefault(chosen.device, Counter())[chosen.choice.place] += 1

    def fitting(self, available: Sequence[ClientInfo], round: int, attempt: int) -> list[ClientInfo]:
        """The clients that some arm fits; the others sit out, each named in the journal once."""
        fits = []
        for info in available:
            if self._offered(info):
                fits.append(info)
            elif info.client not in self._sitting:
                self._sitting.add(info.client)
                self.journal.record(
                    EventKind.SAT_OUT, round=round, attempt=attempt, client=info.client, reason=self._too_small(info)
                )
        return fits

    def choose(self, plan: Plan, info: ClientInfo, shorts: int) -> Plan:
        """A plan with the arm that the scheduler chose for it.

        Args:
            plan: without an arm.
            info: of its client, which `fitting` let pass.
            shorts: attempts of this round that got too few replies.

        Raises:
            PluginError: the scheduler chose an arm that was not offered, or with a chance that is none.
        """
        grid = self.settings.grid
        request = Request(
            client=info.client,
            device=info.device,
            round=plan.round,
            seed=derive_seed(self.seed, "arm", plan.round, shorts, info.client),
            offered=self._offered(info),
            out=dict(self._at_work.setdefault(info.device, Counter())),
        )
        choice = self.scheduler.choose(request)
        if choice.place not in request.offered or not 0 < choice.probability <= 1:
            raise PluginError(
                f'scheduler "{self.table.name}" chose {choice} for client {info.client}',
                code="plugin.scheduler-choice",
                allowed=f"a place among {list(request.offered)}, with a probability above 0 and at most 1",
                remedy="return a Choice of one of request.offered from choose()",
            )
        arm = grid.arms[choice.place]
        self._out[plan.round, plan.attempt, info.client] = Chosen(choice, info.device)
        self._at_work[info.device][choice.place] += 1
        self.journal.record(
            EventKind.ARM_CHOSEN,
            round=plan.round,
            attempt=plan.attempt,
            client=info.client,
            device=info.device,
            place=choice.place,
            **_told(arm),
            why=choice.why,
            probability=choice.probability,
            offered=len(request.offered),
        )
        rank = ALL_COMPONENTS if arm.rank >= self.settings.full_rank else arm.rank
        return replace(plan, rank=rank, pruning=arm.pruning, codec=arm.codec, steps=arm.steps)

    def heard(self, asked: Asked, seconds: float | None, update: Update | None = None, weight: float = 0.0) -> None:
        """A reply was folded in, or (`seconds` None) a client is not back at the deadline.

        Args:
            asked: what was asked.
            seconds: of the coordinator's clock, from asking to the answer.
            update: the reply.
            weight: with which it was folded in.
        """
        chosen = self._out.pop((asked.round, asked.attempt, asked.client), None)
        if chosen is None:
            return
        self._at_work[chosen.device] -= Counter([chosen.choice.place])
        look = None
        if update is not None:
            grid = self.settings.grid
            whole = grid.arms[chosen.choice.place].pruning == min(grid.ratios)
            look = self._look(update, weight, whole)
        self._seen.append(Seen(asked, chosen, seconds, look))

    def learn(self, number: int, attempt: int) -> None:
        """Turn what a round saw into rewards, on record, and tell the scheduler. Right before the round's commit."""
        seen = sorted(self._seen, key=lambda one: (one.asked.client, one.asked.round, one.asked.attempt))
        self._seen = []
        told = [pair for pair in zip(seen, self._measured(seen), strict=True) if pair[1].told]
        self.reference = self.reference.after([measured for _, measured in told])
        outcomes = []
        for one, measured in told:
            choice, seconds, gain = one.chosen.choice, measured.seconds, measured.gain
            reward = self.reference.reward(measured, self.table.slowness)
            outcomes.append(
                Outcome(one.asked.client, one.chosen.device, choice.place, choice.probability, reward, seconds, gain)
            )
            self.journal.record(
                EventKind.ARM_REWARDED,
                round=number,
                attempt=attempt,
                client=one.asked.client,
                device=one.chosen.device,
                place=choice.place,
                **_told(self.settings.grid.arms[choice.place]),
                reward=reward,
                gain=gain,
                seconds=seconds,
                relative=None if seconds is None else self.reference.relative(seconds),
            )
        self.scheduler.observe(outcomes)

    def _measured(self, seen: Sequence[Seen]) -> list[Measured]:
        """What was measured of each: the gain of those that answered, against what the others want."""
        looks = {place: one.look for place, one in enumerate(seen) if one.look is not None}
        gains = dict(zip(looks, alignments(list(looks.values()), self._size), strict=True))
        return [Measured(one.seconds, gains.get(place)) for place, one in enumerate(seen)]

    def _look(self, update: Update, weight: float, whole: bool) -> Look:
        """What alignment sees of an update; one in codes is decoded for it."""
        self._size = update.delta.size
        if self._places is None:
            self._places = sampled(self._size, self.seed)
        holds = None if update.sent is None else np.isin(self._places, update.sent.places, assume_unique=True)
        return Look(update.delta[self._places], weight, whole, holds)

    def sitting_out(self) -> str:
        """Who sits out, as a reason why nobody could be asked; empty when nobody does."""
        few = sorted(self._sitting)[:3]
        more = f" and {len(self._sitting) - 3} more" if len(self._sitting) > 3 else ""
        return f"no arm fits the memory of client {', '.join(few)}{more}" if few else ""

    def state(self) -> dict[str, Any]:
        """For the snapshot, as JSON values."""
        return {
            "scheduler": self.scheduler.state(),
            "reference": [self.reference.gain, self.reference.seconds],
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go back to a committed state."""
        gain, seconds = state["reference"]
        self.reference = Reference(gain, seconds)
        try:
            self.scheduler.restore(state["scheduler"])
        except (KeyError, TypeError, ValueError, IndexError) as error:
            raise PluginError(
                f'scheduler "{self.table.name}" cannot go on from its saved state: {type(error).__name__}: {error}',
                code="plugin.scheduler-state",
                allowed="what its own state() returned",
                remedy="resume with the scheduler that the run was started with, or start a fresh run",
            ) from error

    def _offered(self, info: ClientInfo) -> tuple[int, ...]:
        """Looked up once for each size of memory: a million clients have few."""
        if info.memory_mb not in self._fits:
            self._fits[info.memory_mb] = self.settings.offered(info.memory_mb)
        return self._fits[info.memory_mb]

    def _too_small(self, info: ClientInfo) -> str:
        needs = self.settings.memory_mb
        least = min(range(len(needs)), key=lambda place: (needs[place], place))
        return (
            f"it reports {info.memory_mb} MB; the smallest arm ({self.settings.grid.arms[least]}) needs "
            f"{needs[least]:.0f} MB: it sits out"
        )


def load_scheduler(
    config: RunConfig, grid: Grid, times: Mapping[str, ClassTimes] | None, loads: tuple[Load, ...] = ()
) -> Scheduler:
    """The scheduler that the run file names, told of its arms.

    Args:
        config: of a run with a `[scheduler]`.
        grid: of its arms.
        times: of a simulated fleet, by device class; None where the clock is real.
        loads: of the arms, by place; empty: not known.

    Raises:
        PluginError: there is none of that name, or it refuses its parameters.
        ConfigError: what the name stands for is not a Scheduler, or its parameters do not fit the arms.
    """
    table = config.scheduler
    assert table is not None
    scheduler = build("scheduler", table.name, table.params)
    if not isinstance(scheduler, Scheduler):
        raise ConfigError(
            f'scheduler.name = "{table.name}" is a {type(scheduler).__name__}, not a Scheduler',
            code="config.not-a-scheduler",
            allowed="a class derived from fedpeft.scheduling.Scheduler",
            remedy="derive it, or name another class",
        )
    if scheduler.needs_times and times is None:
        raise ConfigError(
            f'scheduler.name = "{table.name}" needs the time model of a simulated fleet, and engine.name = '
            f'"{config.engine.name}" runs on a real clock',
            code="config.scheduler-times",
            allowed='engine.name = "local" or "ray"',
            remedy="simulate the run, or name a scheduler that learns, e.g. ucb",
        )
    try:
        scheduler.begin(Setting(grid, table.slowness, config.round.mode == "sync", times, loads))
    except (TypeError, ValueError) as error:
        raise ConfigError(
            f'scheduler "{table.name}" does not go with the arms of this run: {error}',
            code="config.scheduler-arms",
            allowed="parameters that name values of scheduler.arms",
            remedy="correct the parameter, or add the value to scheduler.arms",
        ) from error
    return scheduler


def _told(arm: Arm) -> dict[str, Any]:
    """An arm in an event."""
    rank = None if arm.rank == ALL_COMPONENTS else arm.rank
    return {"rank": rank, "pruning": arm.pruning, "codec": arm.codec, "steps": arm.steps}


__all__ = ["Scheduling", "SchedulingSettings", "load_scheduler"]
