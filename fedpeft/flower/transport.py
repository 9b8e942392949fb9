"""The coordinator's `Transport` over any Flower `Grid`: SuperLink's, Ray's or our own."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from flwr.app import Message, MessageType
from flwr.serverapp import Grid

from fedpeft.errors import ClientFault
from fedpeft.flower import compat
from fedpeft.flower.envelope import pack, unpack
from fedpeft.types import Incoming, MessageId, MessageKind, NodeId, Outgoing, Traffic
from fedpeft.wire.limits import REASON, FrameLimits, printable

if TYPE_CHECKING:
    from fedpeft.flower.compat.replies import Replies

MESSAGE_TYPES: dict[MessageKind, str] = {
    "hello": MessageType.QUERY,
    "train": MessageType.TRAIN,
    "evaluate": MessageType.EVALUATE,
}
"""Our message kinds in Flower's words."""

ENVELOPE = 64 * 1024
"""Bytes that Flower may put around a frame; it takes less than a hundredth of them."""


class GridTransport:
    """Frames over a Grid.

    Replies are matched by the id of the message they answer, never by their source: Flower's error replies may carry
    the SuperLink's own node id.

    Args:
        grid: any Flower Grid.
        ttl: seconds after which Flower itself forgets a message; a backstop far behind the coordinator's deadlines.
        count: bytes at Flower's wire, where the Grid does not count them itself.
    """

    def __init__(self, grid: Grid, *, ttl: float, count: bool = True) -> None:
        self.grid = grid
        self.ttl = ttl
        own = getattr(grid, "traffic", None)
        self.traffic: Traffic = own if isinstance(own, Traffic) else Traffic()
        self._counts = count and own is None
        self._out: dict[str, MessageKind] = {}  # by message, while its reply has to be counted
        self._replies = _read_apart(grid)

    def limit(self, limits: FrameLimits) -> None:
        """Do not read replies to their end that are larger than a frame may be, where the nodes are somebody else's."""
        if self._replies is not None:
            self._replies.most = limits.max_header_bytes + limits.max_body_bytes + ENVELOPE

    def nodes(self) -> Sequence[NodeId]:
        """See `Transport.nodes`."""
        return sorted(NodeId(node) for node in self.grid.get_node_ids())

    def send(self, messages: Iterable[Outgoing]) -> list[MessageId | None]:
        """See `Transport.send`."""
        kinds: list[MessageKind] = []
        batch: list[Message] = []
        for out in messages:
            kinds.append(out.kind)
            action = MESSAGE_TYPES[out.kind]
            batch.append(Message(pack(out.frame), dst_node_id=int(out.node), message_type=action, ttl=self.ttl))
        ids: list[str | None] = list(self.grid.push_messages(batch))
        ids += [None] * (len(batch) - len(ids))  # a Grid that refused the whole batch answers with an empty list
        if self._counts:
            for name, kind, message in zip(ids, kinds, batch, strict=True):
                if name:
                    self._out[name] = kind
                    self.traffic.add(kind, "down", compat.wire_bytes(message))
        return [MessageId(name) if name else None for name in ids]

    def receive(self, messages: Collection[MessageId]) -> list[Incoming]:
        """See `Transport.receive`."""
        if not messages:  # Flower's own Grid would make a request of it
            return []
        replies = list((self._replies or self.grid).pull_messages(messages))
        for reply in replies:
            kind = self._out.pop(reply.metadata.reply_to_message_id, None)
            if kind is not None:
                with suppress(Exception):  # of what cannot even be deflated again no bytes are told
                    self.traffic.add(kind, "up", compat.wire_bytes(reply))
        arrivals: Mapping[str, float] = getattr(self.grid, "arrivals", {})  # of Flower's own Grids nobody knows
        return [self._incoming(reply, arrivals.get(reply.metadata.reply_to_message_id)) for reply in replies]

    @staticmethod
    def _incoming(reply: Message, arrived: float | None) -> Incoming:
        message = MessageId(reply.metadata.reply_to_message_id)
        if reply.has_error():
            reason = printable((reply.error.reason or "no reason given")[:REASON])
            return Incoming(message, None, f"{reason} (Flower code {reply.error.code})", arrived)
        try:
            return Incoming(message, unpack(reply), None, arrived)
        except ClientFault as fault:
            return Incoming(message, None, fault.message, arrived)
        except Exception as error:  # a node's own bytes, in classes of Flower's
            reason = printable(f"the reply cannot be read: {type(error).__name__}: {error}"[:REASON])
            return Incoming(message, None, reason, arrived)


def _read_apart(grid: Any) -> Replies | None:
    """For the Grid of a SuperLink; of any other, what that needs is not even imported."""
    if type(grid).__module__ != "flwr.superlink.grid.http_grid":
        return None
    from fedpeft.flower.compat.replies import Replies

    return Replies(grid)
