"""A Flower Grid in one process: runs an unmodified ClientApp, on a clock that may be virtual.

A message is not run when it is pushed but when its reply is due: the time model says how long the device takes, and
`pull_messages` runs what is due by now. So replies come back in the order in which real devices would answer, memory
holds no reply that nobody has asked for yet, and a straggler beyond every deadline costs no computation.
"""

from __future__ import annotations

import heapq
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from flwr.app import Context, Error, Message, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid

from fedpeft.errors import ClientFault
from fedpeft.flower import compat
from fedpeft.flower.envelope import pack, unpack
from fedpeft.types import Clock, MessageKind, NodeId, Traffic

_KINDS: dict[str, MessageKind] = {"query": "hello", "train": "train", "evaluate": "evaluate"}
_RUN_ID = 1


@dataclass(order=True)
class _Pending:
    due: float
    order: int
    message: Message = field(compare=False)


class LocalGrid(Grid):
    """All nodes in this process.

    Args:
        app: the ClientApp, as it would be deployed.
        nodes: node id -> node config, e.g. `{"client": "c00"}`.
        clock: shared with the coordinator.
        seconds: how long a node takes from the frame's arrival here to its reply, in seconds of that clock.
        through_wire: pass messages through Flower's wire format and count its bytes in `traffic`.
        look_ahead: called with the (node, frame) pairs of `train` messages about to run, so that a resident agent can
            train many clients at once; the ClientApp is then called message by message, as Flower does.
        cohort: how many messages `look_ahead` is given at most.
        distort: may replace a reply's frame, or raise to lose it: rehearsed faults.
        run_config: the run configuration that every node's context carries.
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
        self._contexts = {
            node: Context(_RUN_ID, int(node), dict(config), RecordDict(), dict(run_config or {}))
            for node, config in nodes.items()
        }
        self._seconds = seconds
        self._through_wire = through_wire
        self._look_ahead = look_ahead
        self._cohort = cohort
        self._distort = distort
        self._pending: list[_Pending] = []
        self._ahead: set[str] = set()
        self._replies: dict[str, Message] = {}
        self._count = 0
        self._run = compat.empty_run(_RUN_ID)

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Accept messages; their replies fall due as the time model says."""
        ids = []
        for message in messages:
            message_id = uuid.uuid4().hex
            compat.set_message_id(message, message_id)
            node, kind = NodeId(message.metadata.dst_node_id), _KINDS[message.metadata.message_type]
            message = self._wire(message, kind, "down")
            due = self.clock.now() + self._seconds(node, kind, unpack(message))
            heapq.heappush(self._pending, _Pending(due, self._count, message))
            self._count += 1
            ids.append(message_id)
        return ids

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """Run what is due by now and return those replies that were asked for, in the order in which they fell due."""
        now = self.clock.now()
        while self._pending and self._pending[0].due <= now:
            self._train_ahead()
            message = heapq.heappop(self._pending).message
            self._ahead.discard(message.metadata.message_id)
            self._replies[message.metadata.message_id] = self._execute(message)
        wanted = set(message_ids)
        ready = [key for key in self._replies if key in wanted]
        return [self._replies.pop(key) for key in ready]

    def next_due(self) -> float | None:
        """When the next reply falls due, on the grid's clock; None when nothing is out."""
        return self._pending[0].due if self._pending else None

    def _train_ahead(self) -> None:
        """Give the agent the next messages in due order, unless the first of them was already given."""
        first = self._pending[0].message
        if self._look_ahead is None or first.metadata.message_id in self._ahead:
            return
        upcoming = heapq.nsmallest(self._cohort, self._pending)
        batch = [item.message for item in upcoming if item.message.metadata.message_type == "train"]
        self._ahead.update(message.metadata.message_id for message in batch)
        if batch:
            self._look_ahead([(NodeId(m.metadata.dst_node_id), unpack(m)) for m in batch])

    def _execute(self, message: Message) -> Message:
        node = NodeId(message.metadata.dst_node_id)
        try:
            reply = self.app(message, self._contexts[node])
            if self._distort is not None:
                reply = Message(pack(self._distort(node, unpack(message), unpack(reply))), reply_to=message)
        except ClientFault as fault:
            return Message(Error(code=2, reason=fault.message), reply_to=message)
        except Exception as error:  # Flower answers for a ClientApp that raises: so does this Grid
            return Message(Error(code=2, reason=f"{type(error).__name__}: {error}"), reply_to=message)
        compat.set_message_id(reply, uuid.uuid4().hex)
        return self._wire(reply, _KINDS[message.metadata.message_type], "up")

    def _wire(self, message: Message, kind: MessageKind, direction: Any) -> Message:
        if not self._through_wire:
            return message
        received, count = compat.through_wire(message)
        self.traffic.add(kind, direction, count)
        return received

    def get_node_ids(self) -> Iterable[int]:
        """All nodes: they are always reachable."""
        return [int(node) for node in self._contexts]

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> Iterable[Message]:
        """Push, then pull until every reply is here or `timeout` seconds of the grid's clock have passed."""
        ids = list(self.push_messages(messages))
        replies: list[Message] = []
        limit = None if timeout is None else self.clock.now() + timeout
        while len(replies) < len(ids):
            replies += self.pull_messages(ids)
            now, due = self.clock.now(), self.next_due()
            if due is None or (limit is not None and now >= limit):
                break
            self.clock.sleep(max(0.0, due - now if limit is None else min(due, limit) - now))
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
