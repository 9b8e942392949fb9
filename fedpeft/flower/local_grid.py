"""A Flower Grid in one process: runs an unmodified ClientApp, on a clock that may be virtual.

A message is not run when it is pushed but when its reply is due: the time model says how long the device takes, and
`pull_messages` runs what is due by now. So replies come back in the order in which real devices would answer, and
memory holds no reply that nobody asks for. Given an agent that trains many clients at once, the next messages in that
order are trained together a little early.
"""

from __future__ import annotations

import math
import uuid
from bisect import bisect_left, insort
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Literal

from flwr.app import Context, Error, Message, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid

from fedpeft.errors import ClientFault
from fedpeft.flower import compat
from fedpeft.flower.envelope import pack, unpack
from fedpeft.types import Clock, MessageKind, NodeId, Traffic

_KINDS: dict[str, MessageKind] = {"query": "hello", "train": "train", "evaluate": "evaluate"}
_RUN_ID = 1
_CLIENT_APP_RAISED, _NODE_UNAVAILABLE = 2, 5
"""Flower's codes of error replies."""


@dataclass(frozen=True, slots=True)
class _Pending:
    """A message that waits to be run. What is asked of it again and again is taken out of Flower's objects once."""

    message: Message
    name: str  # the message's id
    node: NodeId
    kind: MessageKind
    frame: bytes


class LocalGrid(Grid):
    """All nodes in this process.

    Args:
        app: the ClientApp, as it would be deployed.
        nodes: node id -> node config, e.g. `{"client": "c00"}`.
        clock: shared with the coordinator.
        seconds: how long a node takes from the frame's arrival here to its reply, in seconds of that clock.
        through_wire: pass messages through Flower's wire format and count its bytes in `traffic`.
        look_ahead: called with the (node, frame) pairs of `train` or of `evaluate` messages about to run, so that a
            resident agent can train many clients at once; the ClientApp is then called message by message, as Flower
            does.
        cohort: how many messages `look_ahead` is given at most.
        distort: may replace a reply's frame, or raise to lose it: rehearsed faults.
        run_config: the run configuration that every node's context carries.

    Attributes:
        traffic: bytes at Flower's wire, where messages pass through it.
        arrivals: of the last `pull_messages`, by the message that was answered: when the reply fell due, on the clock.
            Who looks seldom hears late, and the device was no slower for it.
    """

    def __init__(
        self,
        app: ClientApp,
        nodes: Mapping[NodeId, Mapping[str, str | int | float | bool]],
        *,
        clock: Clock,
        seconds: Callable[[NodeId, MessageKind, bytes], float] = lambda node, kind, frame: 0.0,
        through_wire: bool = False,
        look_ahead: Callable[[Sequence[tuple[NodeId, bytes]]], None] | None = None,
        cohort: int = 16,
        distort: Callable[[NodeId, bytes, bytes], bytes] | None = None,
        run_config: Mapping[str, str | int | float | bool] | None = None,
    ) -> None:
        compat.check_version()
        compat.assume_identity(_RUN_ID)
        self.app = app
        self.clock = clock
        self.traffic = Traffic()
        self.arrivals: dict[str, float] = {}
        self._contexts = {
            node: Context(_RUN_ID, int(node), dict(config), RecordDict(), dict(run_config or {}))
            for node, config in nodes.items()
        }
        self._seconds = seconds
        self._through_wire = through_wire
        self._look_ahead = look_ahead
        self._cohort = cohort
        self._distort = distort
        self._pending: list[tuple[float, int, _Pending]] = []  # (due, count, what), sorted
        self._ahead: set[str] = set()  # messages that `look_ahead` was given, until they are run
        self._count = 0
        self._run = compat.empty_run(_RUN_ID)

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Accept messages; their replies fall due as the time model says.

        A message to a node that does not exist is answered at once with Flower's error for a node that is not there.
        """
        ids = []
        for message in messages:
            message_id = uuid.uuid4().hex
            compat.set_message_id(message, message_id)
            node, kind = NodeId(message.metadata.dst_node_id), _kind(message)
            message = self._wire(message, kind, "down")
            frame = _frame(message)
            wait = self._seconds(node, kind, frame) if node in self._contexts else 0.0
            pending = _Pending(message, message_id, node, kind, frame)
            insort(self._pending, (self.clock.now() + wait, self._count, pending))
            self._count += 1
            ids.append(message_id)
        return ids

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """Run those of the messages named that are due by now; their replies, in the order in which they fell due."""
        self.arrivals = {}
        now = self.clock.now()
        due = bisect_left(self._pending, (now, math.inf)) if math.isfinite(now) else 0
        if due == 0:  # most looks find nothing new: they cost nothing, however much is out
            return []
        wanted, replies, place = set(message_ids), [], 0
        for _ in range(due):
            fell_due, _, item = self._pending[place]
            if item.name in wanted:
                self._train_ahead(place, wanted)
                del self._pending[place]
                self.arrivals[item.name] = fell_due
                replies.append(self._execute(item))
            else:
                place += 1
        return replies

    def next_due(self, message_ids: Iterable[str]) -> float | None:
        """When the next reply to one of these messages falls due, on the grid's clock; None when none ever will."""
        wanted = set(message_ids)
        return next((due for due, _, item in self._pending if item.name in wanted and due < math.inf), None)

    def _train_ahead(self, place: int, wanted: set[str]) -> None:
        """Give the agent the next messages in due order, from `place` on, unless the first of them was already given.

        Args:
            place: in the pending messages; none of those before it is wanted.
            wanted: ids of the messages that may be run.
        """
        first = self._pending[place][2]
        if self._look_ahead is None or first.name in self._ahead or first.kind == "hello":
            return
        upcoming = (
            item
            for due, _, item in islice(self._pending, place, None)
            if due < math.inf  # a device that has fallen silent trains for nobody
            and item.kind == first.kind
            and item.name in wanted
            and item.name not in self._ahead
        )
        batch = list(islice(upcoming, self._cohort))
        self._ahead.update(item.name for item in batch)
        self._look_ahead([(item.node, item.frame) for item in batch])

    def _execute(self, item: _Pending) -> Message:
        """The ClientApp's reply, or the error reply that Flower gives in its place."""
        self._ahead.discard(item.name)
        message, node = item.message, item.node
        if node not in self._contexts:
            reply = Message(Error(code=_NODE_UNAVAILABLE, reason=f"there is no node {node}"), reply_to=message)
        else:
            try:
                reply = self.app(message, self._contexts[node])
                if self._distort is not None:
                    reply = Message(pack(self._distort(node, unpack(message), unpack(reply))), reply_to=message)
            except ClientFault as fault:
                reply = Message(Error(code=_CLIENT_APP_RAISED, reason=fault.message), reply_to=message)
            except Exception as error:  # Flower answers for a ClientApp that raises: so does this Grid
                reason = f"{type(error).__name__}: {error}"
                reply = Message(Error(code=_CLIENT_APP_RAISED, reason=reason), reply_to=message)
        compat.set_message_id(reply, uuid.uuid4().hex)
        return self._wire(reply, item.kind, "up")

    def _wire(self, message: Message, kind: MessageKind, direction: Literal["up", "down"]) -> Message:
        if not self._through_wire:
            return message
        received, count = compat.through_wire(message)
        self.traffic.add(kind, direction, count)
        return received

    def get_node_ids(self) -> Iterable[int]:
        """All nodes: they are always reachable."""
        return [int(node) for node in self._contexts]

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> Iterable[Message]:
        """Push, then pull until every reply is here or `timeout` seconds of the grid's clock have passed.

        Without a timeout it gives up on nodes that never answer; Flower's own Grid would wait for them for ever.
        """
        ids = list(self.push_messages(messages))
        replies: list[Message] = []
        limit = self.clock.now() + (math.inf if timeout is None else timeout)
        while len(replies) < len(ids):
            replies += self.pull_messages(ids)
            now, due = self.clock.now(), self.next_due(ids)
            if due is None or due > limit:  # nothing more can come in time
                if math.isfinite(limit) and len(replies) < len(ids):
                    self.clock.sleep(limit - now)
                break
            self.clock.sleep(due - now)
        return replies

    def create_message(
        self, content: RecordDict, message_type: str, dst_node_id: int, group_id: str, ttl: float | None = None
    ) -> Message:
        """See `flwr.serverapp.Grid`."""
        return Message(content, dst_node_id=dst_node_id, message_type=message_type, ttl=ttl, group_id=group_id)

    def set_run(self, run: Any) -> None:
        """See `flwr.serverapp.Grid`."""
        self._run = run

    @property
    def run(self) -> Any:
        """See `flwr.serverapp.Grid`."""
        return self._run


def _kind(message: Message) -> MessageKind:
    """What a message is for. Flower's types may name an action too, e.g. `train.head`."""
    return _KINDS[message.metadata.message_type.split(".")[0]]


def _frame(message: Message) -> bytes:
    """The frame in a message; empty for a message of somebody else's ClientApp."""
    try:
        return unpack(message)
    except ClientFault:
        return b""
