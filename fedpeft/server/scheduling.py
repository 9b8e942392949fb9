"""The coordinator's side of `[scheduler]`: offer a client the arms that fit it, tell the scheduler what came of it.

    round opens -> fits? -> choose for all -> Plans ... reply or deadline -> commit: reward -> observe -> snapshot

Nothing that an attempt saw is learned before its round is committed, and then in client order: the order of arrival and
a crash leave no trace. A reply counts once, in the commit that folds it in; a reply that is refused, or a device that
fails, says nothing of its arm; a client that misses the deadline has reward 0. Where nobody can judge a reply its
seconds are told without a reward.

An attempt with too few replies teaches which deadlines were missed and nothing else, else the same arms might miss them
again in every further attempt. What was missed is on record before the attempt is given up, and a resumed run takes it
from there. Its replies are forgotten: their updates are folded into nothing, and their clients may be asked again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from fedpeft.config import RunConfig
from fedpeft.errors import PluginError
from fedpeft.journal import EventKind, Journal
from fedpeft.pruning.ramp import Ramp
from fedpeft.randomness.streams import derive_seed
from fedpeft.scheduling import (
    Arm,
    Choice,
    Measured,
    Outcome,
    Reference,
    Request,
)
from fedpeft.scheduling.alignment import Look, alignments, sampled
from fedpeft.server.inflight import Asked
from fedpeft.server.judges import Judges
from fedpeft.server.offers import Offers, SchedulingSettings
from fedpeft.server.schedulers import load_scheduler
from fedpeft.types import ALL_COMPONENTS, ClientId, ClientInfo, Plan, Update


@dataclass(frozen=True, slots=True)
class Chosen:
    """A choice whose outcome is not known yet."""

    choice: Choice
    device: str
    fits: tuple[int, ...]  # places of the arms that it could have been given
    offered: int  # of how many of them it was chosen


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
        self.offers = Offers(settings, Ramp(config.pruning.start, config.pruning.ramp, config.pruning.every))
        self._sync = config.round.mode == "sync"
        self._spare = config.round.over_select if self._sync else 0
        self._sitting: set[ClientId] = set()  # too small for any arm, and recorded

    def open(self, out: Iterable[Asked]) -> None:
        """Begin an attempt: what a failed one saw is forgotten, and so is what was out and is no more.

        Args:
            out: all that awaits a reply.
        """
        self._seen = []
        still = {(asked.round, asked.attempt, asked.client) for asked in out}
        self._out = {key: chosen for key, chosen in self._out.items() if key in still}
        self._at_work = {}
        for chosen in self._out.values():
            self._at_work.setdefault(chosen.device, Counter())[chosen.choice.place] += 1

    def fitting(self, available: Sequence[ClientInfo], round: int, attempt: int) -> list[ClientInfo]:
        """The clients that some arm fits; the others sit out, each named in the journal once a session."""
        fits = []
        for info in available:
            if self.offers.of(info.memory_mb, round):
                fits.append(info)
                self._sitting.discard(info.client)
            elif info.client not in self._sitting:
                self._sitting.add(info.client)
                reason = self._too_small(info, round)
                self.journal.record(EventKind.SAT_OUT, round=round, attempt=attempt, client=info.client, reason=reason)
        return fits

    def assign(self, cohort: Sequence[ClientInfo], number: int, attempt: int, shorts: int) -> None:
        """Choose the arms of clients that are about to be asked together.

        Args:
            cohort: in id order; `fitting` let them pass.
            number: the round.
            attempt: of this round.
            shorts: attempts of this round that got too few replies.

        Raises:
            PluginError: the scheduler chose an arm that was not offered, or with a chance that is none.
        """
        judges = self._judges(cohort, number, shorts)
        for info in judges.order:
            fits = self.offers.of(info.memory_mb, number)
            offered = fits
            if judges.needed(info):
                offered = tuple(place for place in fits if self.offers.whole(place, number))
            request = Request(
                client=info.client,
                device=info.device,
                round=number,
                seed=derive_seed(self.seed, "arm", number, shorts, info.client),
                offered=offered,
                out=dict(self._at_work.setdefault(info.device, Counter())),
            )
            choice = self._choice(request)
            if len(offered) < len(fits):
                choice = replace(choice, why=f"to judge others: {choice.why}")
            judges.chose(info, self.offers.whole(choice.place, number))
            self._out[number, attempt, info.client] = Chosen(choice, info.device, fits, len(offered))
            self._at_work[info.device][choice.place] += 1

    def planned(self, plan: Plan, info: ClientInfo) -> Plan:
        """A plan with the arm that was chosen for it, on record.

        Args:
            plan: without an arm.
            info: of its client, for which `assign` chose one.
        """
        chosen = self._out[plan.round, plan.attempt, info.client]
        choice, arm = chosen.choice, self.settings.grid.arms[chosen.choice.place]
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
            offered=chosen.offered,
        )
        rank = ALL_COMPONENTS if arm.rank >= self.settings.full_rank else arm.rank
        return replace(plan, rank=rank, pruning=arm.pruning, codec=arm.codec, steps=arm.steps)

    def _judges(self, cohort: Sequence[ClientInfo], number: int, shorts: int) -> Judges:
        """Who of a cohort may have to train the whole model."""
        whole = {memory: self._whole(memory, number) for memory in {info.memory_mb for info in cohort}}
        needed = self.scheduler.needs_judges and not all(all(own) for own in whole.values())
        besides = [] if self._sync else list(self._out.items())  # of the buffer that these updates will be in
        return Judges(
            cohort,
            able=[info for info in cohort if needed and any(whole[info.memory_mb])],
            besides=len(besides),
            whole=sum(self.offers.whole(chosen.choice.place, key[0]) for key, chosen in besides),
            spare=self._spare,
            seed=self.seed,
            key=(number, shorts),
        )

    def _whole(self, memory_mb: int, number: int) -> list[bool]:
        """Of the arms that are offered to who has so much memory, which are pruned the least."""
        return [self.offers.whole(place, number) for place in self.offers.of(memory_mb, number)]

    def _choice(self, request: Request) -> Choice:
        """The scheduler's, checked."""
        choice = self.scheduler.choose(request)
        if choice.place not in request.offered or not 0 < choice.probability <= 1:
            raise PluginError(
                f'scheduler "{self.table.name}" chose {choice} for client {request.client}',
                code="plugin.scheduler-choice",
                allowed=f"a place among {list(request.offered)}, with a probability above 0 and at most 1",
                remedy="return a Choice of one of request.offered from choose()",
            )
        return choice

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
            sent = 0.0 if asked.plan is None else asked.plan.pruning  # the ratio of the mask that it was sent
            whole = sent <= self.offers.least(asked.round)
            look = self._look(update, weight, whole)
        self._seen.append(Seen(asked, chosen, seconds, look))

    def forget(self, number: int, attempt: int, client: ClientId) -> None:
        """Nothing will be learned of a choice: it was not sent, or what came back is refused or dropped.

        Args:
            number: the round in which it was made.
            attempt: of that round.
            client: for whom.
        """
        chosen = self._out.pop((number, attempt, client), None)
        if chosen is not None:
            self._at_work[chosen.device] -= Counter([chosen.choice.place])

    def learn(self, number: int, attempt: int) -> None:
        """Turn what a round saw into rewards, on record, and tell the scheduler. Right before the round's commit."""
        seen = sorted(self._seen, key=_order)
        self._seen = []
        measured = self._measured(seen)
        self.reference = self.reference.after([one for one in measured if one.told])
        outcomes = []
        with self.journal.together():
            for one, found in zip(seen, measured, strict=True):
                outcome = self._outcome(one, found)
                if outcome is not None:
                    outcomes.append(replace(outcome, offered=one.chosen.fits))
                    if outcome.reward is not None:
                        self._record(outcome, number, attempt)
        self.scheduler.observe(outcomes)

    def came_short(self, number: int, attempt: int) -> None:
        """Tell the scheduler, on record, which deadlines were missed in an attempt that is given up."""
        missed = sorted((one for one in self._seen if one.seconds is None), key=_order)
        outcomes = [outcome for one in missed if (outcome := self._outcome(one, Measured(None))) is not None]
        with self.journal.together():
            for outcome in outcomes:
                self._record(outcome, number, attempt)
        self._seen = []
        if outcomes:
            self.scheduler.observe(outcomes)

    def recall(self, number: int) -> None:
        """Tell the scheduler again what `came_short` did in the round after the commit that was restored.

        Args:
            number: the round.
        """
        short = [event.attempt for event in self.journal.events(EventKind.ROUND_SHORT) if event.round == number]
        if not short:
            return
        rewarded = [event for event in self.journal.events(EventKind.ARM_REWARDED) if event.round == number]
        for attempt in short:
            outcomes = [
                Outcome(
                    event.client, told["device"], told["place"], told["probability"], told["reward"], told["seconds"]
                )
                for event in rewarded
                if event.attempt == attempt and event.client is not None and (told := event.payload)
            ]
            if outcomes:
                self.scheduler.observe(outcomes)

    def _outcome(self, one: Seen, measured: Measured) -> Outcome | None:
        """What is learned of one choice; None where what was played is no arm of the grid."""
        choice = one.chosen.choice
        place = self.offers.played(choice.place, one.asked.round)
        if place is None:
            return None
        reward, gain = None, None
        if measured.told:
            reward, gain = self.reference.reward(measured, self.table.slowness), measured.gain
        return Outcome(one.asked.client, one.chosen.device, place, choice.probability, reward, measured.seconds, gain)

    def _record(self, outcome: Outcome, number: int, attempt: int) -> None:
        self.journal.record(
            EventKind.ARM_REWARDED,
            round=number,
            attempt=attempt,
            client=outcome.client,
            device=outcome.device,
            place=outcome.place,
            **_told(self.settings.grid.arms[outcome.place]),
            probability=outcome.probability,
            reward=outcome.reward,
            gain=outcome.gain,
            seconds=outcome.seconds,
            relative=None if outcome.seconds is None else self.reference.relative(outcome.seconds),
        )

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

    def _too_small(self, info: ClientInfo, number: int) -> str:
        arms = self.settings.grid.arms
        needs = [self.offers.needs(place, number) for place in range(len(arms))]
        least = min(range(len(needs)), key=lambda place: (needs[place], place))
        later = self.settings.offered(info.memory_mb)
        until = ", until pruning.start and pruning.ramp let it train a smaller model" if later else ""
        return (
            f"it reports {info.memory_mb} MB; the smallest arm ({arms[least]}) needs {needs[least]:.0f} MB in round "
            f"{number}: it sits out{until}"
        )


def _order(one: Seen) -> tuple[str, int, int]:
    """By client, which does not depend on the order of arrival."""
    return one.asked.client, one.asked.round, one.asked.attempt


def _told(arm: Arm) -> dict[str, Any]:
    """An arm in an event."""
    rank = None if arm.rank == ALL_COMPONENTS else arm.rank
    return {"rank": rank, "pruning": arm.pruning, "codec": arm.codec, "steps": arm.steps}


__all__ = ["Scheduling", "SchedulingSettings"]
