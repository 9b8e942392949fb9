"""One attempt of one round: what all kinds of rounds share. Plans go out, replies are guarded and folded.

`CohortRound` asks a cohort and waits for it; `BufferedRound` keeps clients training all the time and ends after so many
updates. Both leave to the coordinator what came of it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from fedpeft.codecs.searching import chosen
from fedpeft.errors import ClientFault, PluginError
from fedpeft.journal import EventKind
from fedpeft.randomness.streams import derive_seed
from fedpeft.server.auxiliary import Auxiliary
from fedpeft.server.catch_up import Told
from fedpeft.server.inflight import Asked
from fedpeft.server.pruning import masked
from fedpeft.server.roster import Holding
from fedpeft.server.state import State
from fedpeft.types import ALL_COMPONENTS, ClientId, ClientInfo, FloatArray, Incoming, Plan
from fedpeft.wire.frame import Frame, FrameKind

PATIENCE = 3.0
"""A client that has not answered after so many deadlines is taken for gone and may be asked again."""

REASONS = 8
"""Faults that the error of a short round quotes; all of them are in the journal."""


BASE_LOST = ("client.base-lost", "client.replica-differs")
"""Faults after which a client is sent everything, not a difference from what it holds."""


class RoundShort(Exception):
    """An attempt ended with fewer usable replies than a round needs."""

    def __init__(self, accepted: int, reasons: str, seconds: float) -> None:
        super().__init__(reasons)
        self.accepted = accepted
        self.reasons = reasons
        self.seconds = seconds  # of the coordinator's clock


@dataclass(frozen=True, slots=True)
class Gathered:
    """What came of an attempt that had enough replies."""

    accepted: int  # updates that count towards the round
    seconds: float  # of the coordinator's clock
    ages: tuple[int, ...]  # of every folded update: commits between the version that it started from and this round's

    def staleness(self) -> dict[str, float | int]:
        """`staleness_mean` and `staleness_max` of the updates folded in, in commits; nothing where there are none."""
        if not self.ages:
            return {}
        return {"staleness_mean": sum(self.ages) / len(self.ages), "staleness_max": max(self.ages)}


class Round(ABC):
    """One attempt.

    Args:
        state: the coordinator's parts.
        number: the round, from 1.
        attempt: counts every attempt of this round, over restarts too.
        shorts: attempts of this round that got too few replies: each draws another cohort. A restart does not.
    """

    def __init__(self, state: State, number: int, attempt: int, shorts: int) -> None:
        self.state = state
        self.number = number
        self.attempt = attempt
        self.shorts = shorts
        self.auxiliary = Auxiliary(state.strategy, state.config, state.settings.layout)
        self.frozen = tuple(state.strategy.frozen_in(number))
        self.accepted = 0  # updates that count towards the round
        self.ages: list[int] = []  # of all that were folded
        self.heard: set[ClientId] = set()  # clients whose update is in this attempt, of whichever round
        self.faults: list[str] = []

    def run(self, theta: FloatArray) -> Gathered:
        """Ask, wait, fold.

        Raises:
            RoundShort: fewer than `round.min_replies` usable replies.
        """
        clock, config = self.state.clock, self.state.config
        began = clock.now()
        self.state.strategy.meet(len(self.state.roster.clients))
        self.state.strategy.begin(theta)
        if self.state.scheduling is not None:
            self.state.scheduling.open(self.state.inflight.out())
        if self.state.pruning is not None:
            self.state.pruning.begin()
        self.state.reading.published(self.state.broadcasts.version, theta, self.state.inflight.versions())
        with self.state.journal.together():
            self._gather()
        seconds = clock.now() - began
        if self.accepted < config.round.min_replies:
            raise RoundShort(self.accepted, self._reasons(), seconds)
        return Gathered(self.accepted, seconds, tuple(self.ages))

    @abstractmethod
    def _gather(self) -> None:
        """Ask, and fold replies, until the round may end or nothing more will come."""

    @abstractmethod
    def _counts(self, age: int) -> bool:
        """Whether an update that is `age` commits old counts towards the round; if not, it is folded on top."""

    @abstractmethod
    def _discount(self, age: int) -> float:
        """The factor of its weight, in (0, 1]."""

    def _choose(self, available: Sequence[ClientInfo], count: int, seed: int) -> list[ClientInfo]:
        """The strategy's choice of at most `count` clients, checked, in id order."""
        available = self._fitting(available)
        count = min(count, len(available))
        chosen = list(self.state.strategy.select(available, count, seed)) if count > 0 else []
        known = {info.client: info for info in available}
        if len(set(chosen)) != len(chosen) or not set(chosen) <= known.keys():
            raise PluginError(
                f'strategy "{self.state.config.strategy.name}" selected {chosen}, which has a client twice or one not '
                "available",
                code="plugin.strategy-select",
                allowed=", ".join(known),
                remedy="return distinct ids of available clients from select()",
            )
        return [known[client] for client in sorted(chosen)]

    def _fitting(self, available: Sequence[ClientInfo]) -> Sequence[ClientInfo]:
        """Those that some arm of the scheduler fits; all where there is no scheduler."""
        if self.state.scheduling is None:
            return available
        return self.state.scheduling.fitting(available, self.number, self.attempt)

    def _send(self, chosen: Sequence[ClientInfo]) -> None:
        """Send each its plan, with the current broadcast."""
        now = self.state.clock.now()
        if self.state.scheduling is not None:
            self.state.scheduling.assign(chosen, self.number, self.attempt, self.shorts)
        told = [self._told(info) for info in chosen]
        frames = [(info, self._frame(info, own)) for info, own in zip(chosen, told, strict=True)]
        sent = self.state.post.send("train", frames)
        for (info, frame), own, (message, size) in zip(frames, told, sent, strict=True):
            if message is None:
                self._forget(self.number, self.attempt, info.client)
                self._record(EventKind.FAILED, info.client, reason="the message could not be sent")
                self.faults.append(f"client {info.client}: the message could not be sent")
                continue
            asked = Asked(info.client, "train", self.number, self.attempt, now, frame.plan, own.past)
            self.state.inflight.add(message, asked)
            form = {} if self.state.settings.scalars is None else {"form": own.form}
            about = form | self._codec(frame.plan) | self._rank(frame.plan, info) | masked(frame.plan)
            about |= {"bytes": size, "version": frame.version, "base": frame.base}
            if self.state.pruning is not None:
                self.state.pruning.note(frame.plan, self.state.journal, self.attempt)
            self._record(EventKind.ASKED, info.client, steps=frame.plan.steps if frame.plan else 0, **about)

    def _told(self, info: ClientInfo) -> Told:
        """What a client is sent of the current version."""
        holding = self.state.roster.holding(info.client)
        return self.state.broadcasts.told(holding.version, holding.past)

    def _frame(self, info: ClientInfo, told: Told) -> Frame:
        config, local = self.state.config, self.state.config.local
        holding = self.state.roster.holding(info.client)
        version = self.state.broadcasts.version
        plan = Plan(
            run=config.run.name,
            round=self.number,
            attempt=self.attempt,
            client=info.client,
            seed=derive_seed(config.run.seed, "local", self.number, info.client),
            steps=self.state.steps_of(info.device),
            batch_size=local.batch_size,
            learning_rate=self.state.learning_rate(self.number),
            weight_decay=local.weight_decay,
            max_grad_norm=local.max_grad_norm,
            optimizer=local.optimizer,
            rank=self.state.rank_of(info),
            codec=self.state.codec_of(info.device),
            version=version,
            feedback=holding.feedback,
            layout=self.state.settings.layout.digest,
            auxiliary=self.auxiliary.asked_for,
            frozen=self.frozen,
        )
        if self.state.scheduling is not None:
            plan = self.state.scheduling.planned(plan, info)
        if self.state.pruning is not None:
            told_of = self.state.pruning.ratios.get(info.device, 0.0)
            plan = self.state.pruning.planned(plan, told_of if self.state.scheduling is None else plan.pruning)
        return Frame(
            FrameKind.TRAIN,
            config.run.name,
            self.number,
            self.attempt,
            info.client,
            body=told.body,
            version=version,
            base=told.base,
            plan=self.state.strategy.plan(plan, info),
            sections=self.auxiliary.sections(),
        )

    def _late(self, incoming: Incoming, asked: Asked, rule: str) -> None:
        """Record a late reply, and by which rule it is treated."""
        size, age = len(incoming.frame or b""), self.number - asked.round
        self._record(EventKind.LATE, asked.client, rule=rule, age=age, bytes=size)
        if rule == "drop":
            self._forget(asked.round, asked.attempt, asked.client)
            if incoming.frame is not None:  # one that is folded is counted when it is opened
                self.state.post.traffic.add("train", "up", size)

    def _fold_or_refuse(self, incoming: Incoming, asked: Asked) -> None:
        """Fold a reply in; one that is no good costs its client's update and nothing else."""
        try:
            self._fold(incoming, asked)
        except ClientFault as fault:
            if fault.code in BASE_LOST:
                self.state.roster.lost_base(asked.client)
            self._forget(asked.round, asked.attempt, asked.client)
            self.faults.append(fault.message)
            if incoming.frame is None:
                self._record(EventKind.FAILED, asked.client, reason=incoming.failure or "no reason given")
            else:
                size = len(incoming.frame)
                self._record(EventKind.REFUSED, asked.client, code=fault.code, reason=fault.message, bytes=size)

    def _fold(self, incoming: Incoming, asked: Asked) -> None:
        frame = self.state.post.open(incoming, "train", FrameKind.UPDATE, asked.round, asked.attempt, asked.client)
        info = self.state.roster.clients[asked.client]
        sections, pruning, scores = frame.sections, self.state.pruning, None
        if pruning is not None:
            sections, scores = pruning.read(sections, asked)
        beside = self.auxiliary.read(sections, asked.client)
        update = self.state.reading.update(frame, asked, beside)
        weight, norm = self.state.guard.check(update, info)
        age = self.number - asked.round
        self.state.strategy.accept(update, weight * self._discount(age))
        if pruning is not None:
            pruning.observe(scores, asked, weight * self._discount(age))
        holding = Holding(self.state.broadcasts.version - age, asked.round, asked.past)
        self.state.roster.learn(asked.client, holding)
        self.heard.add(asked.client)
        self.ages.append(age)
        self.accepted += self._counts(age)
        # Until it arrived: before it is folded there may have been evaluations, or a buffer that was full.
        arrived = self.state.clock.now() if incoming.arrived is None else incoming.arrived
        seconds = round(arrived - asked.sent_at, 6)  # the rounding errors of a clock end here
        losses = frame.metrics.get("loss_first"), frame.metrics.get("loss_last")
        if self.state.scheduling is not None:
            self.state.scheduling.heard(asked, seconds, update, weight * self._discount(age))
        self.state.journal.record(
            EventKind.ACCEPTED,
            round=asked.round,
            attempt=asked.attempt,
            client=asked.client,
            weight=weight,
            norm=norm,
            bytes=len(incoming.frame or b""),
            seconds=seconds,
            age=age,
            loss_first=losses[0],
            loss_last=losses[1],
            **self._codec(asked.plan),
            **{lost: True for lost in ("memory_lost", "residual_lost") if lost in frame.metrics},
            **({"steps_skipped": frame.metrics["steps_skipped"]} if "steps_skipped" in frame.metrics else {}),
            **({"chosen": choice} if (choice := chosen(frame.metrics)) else {}),
        )

    def _forget(self, number: int, attempt: int, client: ClientId) -> None:
        """Nothing will be learned of what was chosen for a client in an attempt."""
        if self.state.scheduling is not None:
            self.state.scheduling.forget(number, attempt, client)

    def _reasons(self) -> str:
        """What went wrong, in one line that a thousand clients do not make endless."""
        reasons = list(dict.fromkeys(self.faults)) or self._still_out()
        if self.state.scheduling is not None:
            reasons += [reason for reason in [self.state.scheduling.sitting_out()] if reason]
        more = [f"and {len(reasons) - REASONS} more"] if len(reasons) > REASONS else []
        return "; ".join(reasons[:REASONS] + more) or "no client was available"

    def _still_out(self) -> list[str]:
        """Who could not be asked because nothing has come back of what was asked before."""
        busy = sorted(self.state.inflight.busy())
        more = f" and {len(busy) - 3} more" if len(busy) > 3 else ""
        return [f"no reply yet to what was asked of client {', '.join(busy[:3])}{more}"] if busy else []

    def _codec(self, plan: Plan | None) -> dict[str, str]:
        """What an event tells of a plan's codec: nothing where it is the run's."""
        return {"codec": plan.codec} if plan is not None and plan.codec != self.state.config.codec.up else {}

    def _rank(self, plan: Plan | None, info: ClientInfo) -> dict[str, int]:
        """What an event tells of a plan's rank: nothing where it is the device class's."""
        own = self.state.settings.ranks.get(info.device, ALL_COMPONENTS)
        return {"rank": plan.rank} if plan is not None and plan.rank < own else {}

    def _record(self, kind: EventKind, client: ClientId | None, **payload: Any) -> None:
        self.state.journal.record(kind, round=self.number, attempt=self.attempt, client=client, **payload)


__all__ = ["PATIENCE", "Gathered", "Round", "RoundShort"]
