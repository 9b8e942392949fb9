"""One attempt of one round: ask a cohort, take replies as they come, stop when there are enough or time is up."""

from __future__ import annotations

from typing import Any

import numpy as np

from fedpeft.errors import ClientFault, PluginError
from fedpeft.journal import EventKind
from fedpeft.randomness.streams import derive_seed
from fedpeft.registry import build
from fedpeft.server.inflight import Asked
from fedpeft.server.roster import Holding
from fedpeft.server.state import State
from fedpeft.types import ClientId, ClientInfo, FloatArray, Incoming, Plan, Update
from fedpeft.wire.frame import Frame, FrameKind

PATIENCE = 3.0
"""A client that has not answered after so many deadlines is taken for gone and may be asked again."""


class RoundShort(Exception):
    """An attempt ended with fewer usable replies than a round needs."""

    def __init__(self, accepted: int, reasons: str) -> None:
        super().__init__(reasons)
        self.accepted = accepted
        self.reasons = reasons


class Round:
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
        self.accepted = 0
        self.faults: list[str] = []

    def run(self, theta: FloatArray) -> tuple[int, float]:
        """Ask, wait, fold. Returns how many updates were folded, and the seconds it took.

        Raises:
            RoundShort: fewer than `round.min_replies` usable replies.
        """
        began = self.state.clock.now()
        self.state.strategy.begin(theta)
        needed = self._ask()
        deadline = began + self.state.config.round.deadline_s
        while True:
            for incoming in self.state.post.receive(self.state.inflight.messages()):
                self._take(incoming, needed)
            if self.accepted >= needed or not self.state.inflight.of_round(self.number, self.attempt):
                break
            if self.state.clock.now() >= deadline:
                for asked in self.state.inflight.of_round(self.number, self.attempt):
                    self._record(EventKind.ABANDONED, asked.client)
                    self.faults.append(f"client {asked.client}: no reply within the deadline")
                break
            self.state.clock.sleep(self.state.settings.poll_s)
        if self.accepted < self.state.config.round.min_replies:
            reasons = list(dict.fromkeys(self.faults))
            raise RoundShort(self.accepted, "; ".join(reasons[:3]) or "no client was available")
        return self.accepted, self.state.clock.now() - began

    def _ask(self) -> int:
        """Select, plan and send; returns how many updates close the round."""
        config, now = self.state.config, self.state.clock.now()
        self.state.inflight.give_up(now, PATIENCE * config.round.deadline_s)
        available = self.state.roster.available(self.state.inflight.busy())
        count = min(config.round.ask + config.round.over_select, len(available))
        seed = derive_seed(config.run.seed, "select", self.number, self.shorts)
        chosen = list(self.state.strategy.select(available, count, seed)) if available else []
        known = {info.client: info for info in available}
        if len(set(chosen)) != len(chosen) or not set(chosen) <= known.keys():
            raise PluginError(
                f'strategy "{config.strategy.name}" selected {chosen}, which has a client twice or one not available',
                code="plugin.strategy-select",
                allowed=", ".join(known),
                remedy="return distinct ids of available clients from select()",
            )
        self._record(EventKind.ROUND_OPENED, None, cohort=sorted(chosen))
        frames = [(known[client], self._frame(known[client])) for client in sorted(chosen)]
        for (info, frame), (message, size) in zip(frames, self.state.post.send("train", frames), strict=True):
            if message is None:
                self._record(EventKind.FAILED, info.client, reason="the message could not be sent")
                self.faults.append(f"client {info.client}: the message could not be sent")
                continue
            self.state.inflight.add(message, Asked(info.client, "train", self.number, self.attempt, now))
            steps = frame.plan.steps if frame.plan else 0
            self._record(EventKind.ASKED, info.client, bytes=size, version=frame.version, base=frame.base, steps=steps)
        return min(config.round.ask, len(chosen))

    def _frame(self, info: ClientInfo) -> Frame:
        config, local = self.state.config, self.state.config.local
        holding = self.state.roster.holding(info.client)
        version = self.state.broadcasts.version
        plan = Plan(
            run=config.run.name,
            round=self.number,
            attempt=self.attempt,
            client=info.client,
            seed=derive_seed(config.run.seed, "local", self.number, info.client),
            steps=self.state.settings.steps.get(info.device, local.steps),
            batch_size=local.batch_size,
            learning_rate=local.learning_rate,
            weight_decay=local.weight_decay,
            max_grad_norm=local.max_grad_norm,
            optimizer=local.optimizer,
            rank=config.adapter.rank,
            codec=config.codec.up,
            version=version,
            feedback=holding.feedback,
            layout=self.state.settings.layout.digest,
        )
        base = self.state.broadcasts.base_for(holding.version)
        return Frame(
            FrameKind.TRAIN,
            config.run.name,
            self.number,
            self.attempt,
            info.client,
            body=self.state.broadcasts.body(base),
            version=version,
            base=base,
            plan=self.state.strategy.plan(plan, info),
        )

    def _take(self, incoming: Incoming, needed: int) -> None:
        """One reply: fold it, refuse it, or treat it as late."""
        asked = self.state.inflight.pop(incoming.message)
        if asked is None:
            return
        late = (asked.round, asked.attempt) != (self.number, self.attempt)
        size = len(incoming.frame or b"")
        if late or self.accepted >= needed:
            fold = late and self.state.config.round.late == "fold" and asked.round < self.number
            self._record(
                EventKind.LATE,
                asked.client,
                rule="fold" if fold else "drop",
                age=self.number - asked.round,
                bytes=size,
            )
            if not fold:
                if incoming.frame is not None:
                    self.state.post.traffic.add("train", "up", size)
                return
        try:
            self._fold(incoming, asked)
        except ClientFault as fault:
            if fault.code == "client.base-lost":
                self.state.roster.lost_base(asked.client)
            self.faults.append(fault.message)
            if fault.code == "transport.failed":
                self._record(EventKind.FAILED, asked.client, reason=incoming.failure or "no reason given")
            else:
                self._record(EventKind.REFUSED, asked.client, code=fault.code, reason=fault.message, bytes=size)

    def _fold(self, incoming: Incoming, asked: Asked) -> None:
        frame = self.state.post.open(incoming, "train", FrameKind.UPDATE, asked.round, asked.attempt, asked.client)
        config, info = self.state.config, self.state.roster.clients[asked.client]
        size = self.state.settings.layout.size
        codec = build("codec", config.codec.up, {})
        if frame.codec != config.codec.up or len(frame.body) > codec.max_bytes(size):
            raise ClientFault(
                f"client {asked.client} sent {len(frame.body)} bytes of codec {frame.codec!r}",
                code="codec.unexpected",
                allowed=f"at most {codec.max_bytes(size)} bytes of {config.codec.up!r}",
            )
        try:
            delta = codec.decode(frame.body, size)
        except ClientFault as fault:
            raise ClientFault(f"client {asked.client}: {fault.message}", code=fault.code) from fault
        update = Update(asked.client, asked.round, delta, frame.weight, frame.metrics)
        weight = self.state.guard.check(update, info)
        age = self.number - asked.round
        self.state.strategy.accept(update, weight * config.round.late_discount**age)
        self.state.roster.learn(asked.client, Holding(self.state.broadcasts.version - age, asked.round))
        if age == 0:
            self.accepted += 1
        self.state.journal.record(
            EventKind.ACCEPTED,
            round=asked.round,
            attempt=asked.attempt,
            client=asked.client,
            weight=weight,
            norm=float(np.linalg.norm(delta)),
            bytes=len(incoming.frame or b""),
            seconds=self.state.clock.now() - asked.sent_at,
            loss_first=frame.metrics.get("loss_first"),
            loss_last=frame.metrics.get("loss_last"),
        )

    def _record(self, kind: EventKind, client: ClientId | None, **payload: Any) -> None:
        self.state.journal.record(kind, round=self.number, attempt=self.attempt, client=client, **payload)


__all__ = ["Round", "RoundShort"]
