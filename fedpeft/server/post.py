"""Frames out, frames in: addresses, limits, byte counts. Used by the rounds and by the two simple exchanges."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from fedpeft.errors import ClientFault
from fedpeft.types import (
    ClientId,
    ClientInfo,
    Clock,
    Incoming,
    MessageId,
    MessageKind,
    Outgoing,
    Plan,
    Traffic,
    Transport,
)
from fedpeft.wire.frame import Frame, FrameKind, FrameLimits, body_digest, decode_frame, encode_frame
from fedpeft.wire.guard import check_reply

SENT_TOGETHER = 16
"""Frames that are encoded and handed to the transport at a time."""


@dataclass(frozen=True, slots=True)
class Reply:
    """What came of one message of an exchange: a frame, or the reason why there is none."""

    client: ClientId
    frame: Frame | None
    reason: str = ""
    code: str = ""  # of the fault, where a reply came and was one


def named(fault: ClientFault, client: ClientId) -> ClientFault:
    """The same fault, with the client in its message; the empty client of a hello is nobody yet."""
    if not client or f"client {client}" in fault.message:
        return fault
    return ClientFault(f"client {client}: {fault.message}", code=fault.code, allowed=fault.allowed, remedy=fault.remedy)


@contextmanager
def decoding(client: ClientId, codec: str, what: str) -> Iterator[None]:
    """Charge whatever a codec raises over a client's bytes to that client: a plug-in codec may raise anything.

    Args:
        client: whose bytes they are.
        codec: its name.
        what: is decoded, for people, e.g. "its 300 bytes".

    Raises:
        ClientFault: in place of any exception of the block, naming the client.
    """
    try:
        yield
    except ClientFault as fault:
        raise named(fault, client) from fault
    except Exception as error:
        raise ClientFault(
            f"client {client}: codec {codec!r} cannot decode {what}: {type(error).__name__}: {error}",
            code="codec.malformed",
        ) from error


class Post:
    """The coordinator's post office.

    Args:
        run: the run's name, in every frame.
        transport: moves frames.
        clock: for the deadlines of exchanges.
        limits: on frames that come in.
    """

    def __init__(self, run: str, transport: Transport, clock: Clock, limits: FrameLimits) -> None:
        self.run = run
        self.transport = transport
        self.clock = clock
        self.limits = limits
        self.traffic = Traffic()  # bytes of frames
        self._told: dict[tuple[str, str], int] = {}

    def send(self, kind: MessageKind, frames: Sequence[tuple[ClientInfo, Frame]]) -> list[tuple[MessageId | None, int]]:
        """Send frames; for each its message id (None: could not be sent) and its bytes.

        They share their bodies until they are encoded, a few at a time: a large cohort costs no more memory here.
        """
        distinct = {(id(frame.body), id(frame.sections)): frame for _, frame in frames}
        digests = {key: body_digest(frame.body, frame.sections) for key, frame in distinct.items()}
        sent: list[tuple[MessageId | None, int]] = []
        for start in range(0, len(frames), SENT_TOGETHER):
            part = frames[start : start + SENT_TOGETHER]
            outgoing = [
                Outgoing(info.node, info.client, kind, encode_frame(frame, digests[id(frame.body), id(frame.sections)]))
                for info, frame in part
            ]
            for out in outgoing:
                self.traffic.add(kind, "down", len(out.frame))
            ids = self.transport.send(outgoing)
            sent += [(name, len(out.frame)) for name, out in zip(ids, outgoing, strict=True)]
        return sent

    def receive(self, messages: Iterable[MessageId]) -> list[Incoming]:
        """Replies that are here now; of those whose transport tells no time, it is now that they arrived."""
        replies, now = self.transport.receive(list(messages)), self.clock.now()
        return [reply if reply.arrived is not None else replace(reply, arrived=now) for reply in replies]

    def open(
        self,
        incoming: Incoming,
        kind: MessageKind,
        expect: FrameKind,
        round_number: int,
        attempt: int,
        client: ClientId,
    ) -> Frame:
        """Count, decode and guard a reply.

        Raises:
            ClientFault: no frame, a malformed one, one that does not answer what was asked, or the client's refusal;
                names the client where it is known.
        """
        if incoming.frame is None:
            raise named(ClientFault(incoming.failure or "no reason given", code="transport.failed"), client)
        self.traffic.add(kind, "up", len(incoming.frame))
        try:
            frame = decode_frame(incoming.frame, self.limits)
        except ClientFault as fault:
            raise named(fault, client) from fault
        if frame.kind is FrameKind.REFUSAL and frame.refusal is not None:
            raise named(ClientFault(frame.refusal.reason, code=frame.refusal.code), client)
        check_reply(frame, expect=expect, run=self.run, round=round_number, attempt=attempt, client=client)
        return frame

    def exchange_evaluate(
        self,
        clients: Sequence[tuple[ClientInfo, int, bytes, int]],
        round_number: int,
        version: int,
        deadline_s: float,
        pause: Callable[[], None],
        plans: Mapping[ClientId, Plan] | None = None,
    ) -> Iterator[Reply]:
        """Ask clients to evaluate a version, given as (client, base, body, memory); with plans, after their steps."""
        frames = [
            (
                info,
                Frame(
                    FrameKind.EVALUATE,
                    self.run,
                    round_number,
                    0,
                    info.client,
                    body=body,
                    version=version,
                    base=base,
                    plan=plans[info.client] if plans else None,
                    memory=memory,
                ),
            )
            for info, base, body, memory in clients
        ]
        for _, reply in self._exchange("evaluate", FrameKind.EVALUATION, frames, deadline_s, pause):
            yield reply

    def moved_since_last(self, *kinds: MessageKind) -> dict[str, Any]:
        """Bytes of messages of these kinds since the last call that named them, at the frame and at Flower's wire.

        Of several kinds, `by_kind` tells those of each in frames: [up, down].
        """
        moved: dict[str, Any] = {}
        by_kind: dict[str, list[int]] = {kind: [] for kind in kinds}
        for name, traffic in (("frame", self.traffic), ("wire", self.transport.traffic)):
            for direction in ("up", "down"):
                total = 0
                for kind in kinds:
                    key = f"{kind}.{direction}"
                    new = traffic.bytes.get(key, 0) - self._told.get((name, key), 0)
                    self._told[name, key] = traffic.bytes.get(key, 0)
                    total += new
                    if name == "frame":
                        by_kind[kind].append(new)
                moved[f"{name}_{direction}"] = total
        return moved | ({"by_kind": by_kind} if len(kinds) > 1 else {})

    def _exchange(
        self,
        kind: MessageKind,
        expect: FrameKind,
        frames: Sequence[tuple[ClientInfo, Frame]],
        deadline_s: float,
        pause: Callable[[], None],
    ) -> Iterator[tuple[ClientInfo, Reply]]:
        """Send, then yield replies as they come until all are here or the deadline passes; `pause` between looks."""
        waiting: dict[MessageId, tuple[ClientInfo, Frame]] = {}
        for (info, frame), (name, _) in zip(frames, self.send(kind, frames), strict=True):
            if name is None:
                yield info, Reply(info.client, None, reason="the message could not be sent")
            else:
                waiting[name] = (info, frame)
        deadline = self.clock.now() + deadline_s
        while waiting:
            for incoming in self.receive(waiting):
                if incoming.message not in waiting:
                    continue
                info, asked = waiting.pop(incoming.message)
                try:
                    frame = self.open(incoming, kind, expect, asked.round, asked.attempt, asked.client)
                    yield info, Reply(info.client, frame)
                except ClientFault as fault:
                    yield info, Reply(info.client, None, fault.message, fault.code)
            if waiting and self.clock.now() >= deadline:
                break
            if waiting:
                pause()
        for info, _ in waiting.values():
            yield info, Reply(info.client, None, reason=f"no reply within {deadline_s:g} s")
