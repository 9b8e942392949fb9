"""One attempt of one round: ask a cohort, take replies as they come, stop when there are enough or time is up."""

from __future__ import annotations

from typing import Any

from fedpeft.codecs import CodedCodec
from fedpeft.errors import ClientFault, PluginError
from fedpeft.journal import EventKind
from fedpeft.randomness.streams import derive_seed
from fedpeft.registry import build
from fedpeft.server.inflight import Asked
from fedpeft.server.post import named
from fedpeft.server.roster import Holding
from fedpeft.server.state import State
from fedpeft.types import ALL_COMPONENTS, ClientId, ClientInfo, FloatArray, Incoming, Plan, Update
from fedpeft.wire.frame import Frame, FrameKind

PATIENCE = 3.0
"""A client that has not answered after so many deadlines is taken for gone and may be asked again."""


REASONS = 8
"""Faults that the error of a short round quotes; all of them are in the journal."""


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
        self.codec = build("codec", state.config.codec.up, {})  # once: looking at its signature for each reply adds up
        self.coded = self.codec if isinstance(self.codec, CodedCodec) else None
        self.accepted = 0  # updates of this round; folded ones of earlier rounds do not count
        self.heard: set[ClientId] = set()  # clients whose update is in this attempt, of whichever round
        self.faults: list[str] = []

    def run(self, theta: FloatArray) -> tuple[int, float]:
        """Ask, wait, fold. Returns how many updates were folded, and the seconds it took.

        Raises:
            RoundShort: fewer than `round.min_replies` usable replies.
        """
        clock, config = self.state.clock, self.state.config
        began = clock.now()
        self.state.strategy.begin(theta)
        with self.state.journal.together():
            self._gather()
        if self.accepted < config.round.min_replies:
            raise RoundShort(self.accepted, self._reasons())
        return self.accepted, clock.now() - began

    def _gather(self) -> None:
        """Ask, and take replies until there are enough, nobody is out any more, or the deadline has passed."""
        clock, config, inflight = self.state.clock, self.state.config, self.state.inflight
        needed = self._ask(self._available())
        deadline = clock.now() + config.round.deadline_s
        while True:
            self._receive(needed)
            if self.accepted >= needed or not inflight.waits_for(self.number, self.attempt):
                break
            if clock.now() >= deadline:
                for asked in inflight.of_round(self.number, self.attempt):
                    self._record(EventKind.ABANDONED, asked.client)
                    self.faults.append(f"client {asked.client}: no reply within {config.round.deadline_s:g} s")
                break
            self.state.pause()

    def _available(self) -> list[ClientInfo]:
        """The clients that can be asked.

        While too few of them are free to make a round, this waits for those that are still out, for one deadline at
        most: without it, devices that are all slower than the deadline would use up the attempts at once.
        """
        clock, config, inflight = self.state.clock, self.state.config, self.state.inflight
        deadline = clock.now() + config.round.deadline_s
        while True:
            inflight.give_up(clock.now(), PATIENCE * config.round.deadline_s)
            free = self.state.roster.available(inflight.busy() | self.heard)
            enough = self.accepted + len(free) >= config.round.min_replies
            if enough or not inflight.messages() or clock.now() >= deadline:
                return free
            self.state.pause()
            self._receive(config.round.ask)

    def _ask(self, available: list[ClientInfo]) -> int:
        """Select, plan and send; returns how many updates close the round."""
        config = self.state.config
        count = min(config.round.ask + config.round.over_select - self.accepted, len(available))
        seed = derive_seed(config.run.seed, "select", self.number, self.shorts)
        chosen = list(self.state.strategy.select(available, count, seed)) if count > 0 else []
        known = {info.client: info for info in available}
        if len(set(chosen)) != len(chosen) or not set(chosen) <= known.keys():
            raise PluginError(
                f'strategy "{config.strategy.name}" selected {chosen}, which has a client twice or one not available',
                code="plugin.strategy-select",
                allowed=", ".join(known),
                remedy="return distinct ids of available clients from select()",
            )
        self._record(EventKind.ROUND_OPENED, None, cohort=sorted(chosen))
        self.state.journal.flush()  # the number of this attempt is used from here on
        now = self.state.clock.now()
        frames = [(known[client], self._frame(known[client])) for client in sorted(chosen)]
        for (info, frame), (message, size) in zip(frames, self.state.post.send("train", frames), strict=True):
            if message is None:
                self._record(EventKind.FAILED, info.client, reason="the message could not be sent")
                self.faults.append(f"client {info.client}: the message could not be sent")
                continue
            self.state.inflight.add(message, Asked(info.client, "train", self.number, self.attempt, now))
            steps = frame.plan.steps if frame.plan else 0
            self._record(EventKind.ASKED, info.client, bytes=size, version=frame.version, base=frame.base, steps=steps)
        return min(config.round.ask, self.accepted + len(chosen))

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
            rank=self.state.settings.ranks.get(info.device, ALL_COMPONENTS),
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

    def _receive(self, needed: int) -> None:
        for incoming in self.state.post.receive(self.state.inflight.messages()):
            self._take(incoming, needed)

    def _take(self, incoming: Incoming, needed: int) -> None:
        """One reply: fold it, refuse it, or treat it as late."""
        asked = self.state.inflight.pop(incoming.message)
        if asked is None:
            return
        late = (asked.round, asked.attempt) != (self.number, self.attempt)
        size = len(incoming.frame or b"")
        if late or self.accepted >= needed:
            # A reply to an earlier attempt of this round starts from the same θ: its age is 0, it counts in full.
            fold = late and self.state.config.round.late == "fold"
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
            if incoming.frame is None:
                self._record(EventKind.FAILED, asked.client, reason=incoming.failure or "no reason given")
            else:
                self._record(EventKind.REFUSED, asked.client, code=fault.code, reason=fault.message, bytes=size)

    def _fold(self, incoming: Incoming, asked: Asked) -> None:
        frame = self.state.post.open(incoming, "train", FrameKind.UPDATE, asked.round, asked.attempt, asked.client)
        config, info = self.state.config, self.state.roster.clients[asked.client]
        update = self._decode(frame, asked)
        weight, norm = self.state.guard.check(update, info)
        age = self.number - asked.round
        self.state.strategy.accept(update, weight * config.round.late_discount**age)
        self.state.roster.learn(asked.client, Holding(self.state.broadcasts.version - age, asked.round))
        self.heard.add(asked.client)
        if age == 0:
            self.accepted += 1
        self.state.journal.record(
            EventKind.ACCEPTED,
            round=asked.round,
            attempt=asked.attempt,
            client=asked.client,
            weight=weight,
            norm=norm,
            bytes=len(incoming.frame or b""),
            seconds=self.state.clock.now() - asked.sent_at,
            loss_first=frame.metrics.get("loss_first"),
            loss_last=frame.metrics.get("loss_last"),
        )

    def _decode(self, frame: Frame, asked: Asked) -> Update:
        """The update in a reply; where the codec allows, its delta stays in codes until somebody reads it."""
        name, size = self.state.config.codec.up, self.state.settings.layout.size
        codec, client = self.codec, asked.client
        if frame.codec != name or len(frame.body) > codec.max_bytes(size):
            raise ClientFault(
                f"client {client} sent {len(frame.body)} bytes of codec {frame.codec!r}",
                code="codec.unexpected",
                allowed=f"at most {codec.max_bytes(size)} bytes of {name!r}",
            )
        about = (frame.weight, frame.metrics)
        try:
            if self.coded is not None:
                return Update.of_codes(client, asked.round, self.coded.view(frame.body, size), *about)
            return Update(client, asked.round, codec.decode(frame.body, size), *about)
        except ClientFault as fault:
            raise named(fault, client) from fault
        except Exception as error:  # a plug-in codec may raise anything on a client's bytes: that costs the client
            raise ClientFault(
                f"client {client}: codec {name!r} cannot decode its {len(frame.body)} bytes: "
                f"{type(error).__name__}: {error}",
                code="codec.malformed",
            ) from error

    def _reasons(self) -> str:
        """What went wrong, in one line that a thousand clients do not make endless."""
        reasons = list(dict.fromkeys(self.faults))
        more = [f"and {len(reasons) - REASONS} more"] if len(reasons) > REASONS else []
        return "; ".join(reasons[:REASONS] + more) or "no client was available"

    def _record(self, kind: EventKind, client: ClientId | None, **payload: Any) -> None:
        self.state.journal.record(kind, round=self.number, attempt=self.attempt, client=client, **payload)


__all__ = ["Round", "RoundShort"]
