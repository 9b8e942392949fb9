"""Replies of a SuperLink's Grid, read one by one: what one node sends, or does not, costs nobody else a reply or time.

A SuperLink lists a reply, once, as soon as its head is there; the objects may still be on their way. Flower's Grid
waits for them, one reply after the other, so that a node on a slow line, or one that was cut off, holds up everybody
else's replies, beyond any deadline. Here a reply that is not all there is set aside and looked at again with the next
pull.

A node may also push any bytes as an object. Flower's Grid inflates the replies of all nodes in one call, after it has
told the SuperLink that it has them: what one raises there would lose the others too. Here it becomes the error reply
of that one.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial

from flwr.app import Error, Message, Metadata
from flwr.app.message import make_message
from flwr.common.constant import ErrorCode
from flwr.proto.message_pb2 import ConfirmMessageReceivedRequest
from flwr.proto.runtime_pb2 import PullAppMessagesRequest
from flwr.supercore.constant import SYSTEM_MESSAGE_TYPE
from flwr.supercore.inflatable.inflatable_object import iterate_object_tree
from flwr.supercore.inflatable.inflatable_protobuf_utils import make_pull_object_fn_protobuf
from flwr.supercore.inflatable.inflatable_utils import (
    ObjectPullError,
    ObjectUnavailableError,
    inflate_object_from_contents,
    pull_objects,
)
from flwr.superlink.grid import HttpGrid

from fedpeft.flower.compat import ON_ITS_WAY_S, set_message_id

SELDOM_S = 1.0
"""Seconds at most between two looks at a reply that is on its way; the first ones are `ON_ITS_WAY_S` apart, then twice
as long each time: a thousand slow lines cost a few requests a second each."""

LISTED_TOGETHER = 1000
"""Messages whose replies are asked for in one request: a cohort of any size stays below the SuperLink's limits."""


@dataclass(slots=True)
class _Coming:
    """A reply that the SuperLink has listed, as far as it is here."""

    asked: str  # id of the message that it answers
    missing: list[str]  # ids of objects
    objects: dict[str, bytes] = field(default_factory=dict)
    due: float = 0.0  # when to look again, in seconds of the monotonic clock
    apart: float = ON_ITS_WAY_S  # from the look after it


class _TooLarge(Exception):
    """More bytes than a reply may have."""


class Replies:
    """What `pull_messages` of a SuperLink's Grid is for, without waiting.

    Args:
        grid: of Flower.

    Attributes:
        most: bytes that a reply may have; of a larger one no more is read, and it becomes an error reply.
    """

    def __init__(self, grid: HttpGrid) -> None:
        self.most = math.inf
        self._grid = grid
        self._coming: dict[str, _Coming] = {}  # by the reply's id

    def pull_messages(self, message_ids: Iterable[str]) -> list[Message]:
        """The replies to these messages that are all here now, each once; does not wait.

        Args:
            message_ids: those that are waited for: of what answers another one nothing is kept.
        """
        wanted = set(message_ids)
        self._coming = {name: one for name, one in self._coming.items() if one.asked in wanted}
        self._list(sorted(wanted - {one.asked for one in self._coming.values()}))
        read = {name: self._read(name, one) for name, one in self._coming.items()}
        self._coming = {name: one for name, one in self._coming.items() if read[name] is None}
        return [message for message in read.values() if message is not None]

    def _list(self, message_ids: list[str]) -> None:
        """Ask which replies there are; the SuperLink tells of each once, and forgets what it answers."""
        for start in range(0, len(message_ids), LISTED_TOGETHER):
            request = PullAppMessagesRequest(message_ids=message_ids[start : start + LISTED_TOGETHER])
            found = self._grid._runtime_client.PullMessages(request)
            for head, tree in zip(found.messages_list, found.message_object_trees, strict=True):
                names = [part.object_id for part in iterate_object_tree(tree)]
                about = head.metadata
                self._coming[about.message_id] = _Coming(about.reply_to_message_id, list(dict.fromkeys(names)))

    def _read(self, name: str, one: _Coming) -> Message | None:
        """The reply, or the error reply in its place; None while objects of it are on their way."""
        if time.monotonic() < one.due:
            return None
        try:
            if not self._fetch(one):
                one.due, one.apart = time.monotonic() + one.apart, min(2 * one.apart, SELDOM_S)
                return None
        except ObjectPullError as error:  # the node was too slow for the SuperLink, which has let go of what it had
            return self._failure(one, f"the reply was not sent to its end: {error}")
        except _TooLarge as error:
            self._confirm(name)
            return self._failure(one, str(error))
        self._confirm(name)
        return self._inflate(name, one)

    def _fetch(self, one: _Coming) -> bool:
        """Ask for each missing object once; whether the reply is all here."""
        node, run_id = self._grid.node, self._grid.run.run_id
        pull = make_pull_object_fn_protobuf(self._grid._runtime_client.PullObject, node=node, run_id=run_id)
        late: list[str] = []
        try:
            pull_objects(one.missing, partial(self._keep, one, late, pull), max_tries_per_object=1)
        except ObjectPullError:
            if not late:
                raise
        one.missing = [name for name in one.missing if name not in one.objects]
        return not one.missing

    def _keep(self, one: _Coming, late: list[str], pull: Callable[[str], bytes], name: str) -> bytes:
        try:
            content = pull(name)
        except ObjectUnavailableError:
            late.append(name)
            raise
        if (size := sum(map(len, list(one.objects.values()))) + len(content)) > self.most:
            raise _TooLarge(f"the reply has {size} bytes or more, of at most {self.most:.0f} (limits.max_frame_mb)")
        one.objects[name] = content
        return b""  # it is kept above, also where another object is late

    def _confirm(self, name: str) -> None:
        """Tell the SuperLink that it may forget the objects."""
        self._grid._runtime_client.ConfirmMessageReceived(
            ConfirmMessageReceivedRequest(node=self._grid.node, run_id=self._grid.run.run_id, message_object_id=name)
        )

    def _inflate(self, name: str, one: _Coming) -> Message:
        try:
            found = inflate_object_from_contents(name, one.objects)
            if not isinstance(found, Message):
                raise TypeError(f"it is a {type(found).__name__}, not a Message")
        except Exception as error:  # whatever a stranger's bytes raise in protobuf or in Flower's own classes
            return self._failure(one, f"the reply cannot be read: {type(error).__name__}: {error}")
        set_message_id(found, name)
        return found

    def _failure(self, one: _Coming, reason: str) -> Message:
        about = Metadata(self._grid.run.run_id, "", 0, 0, one.asked, "", 0.0, 0.0, SYSTEM_MESSAGE_TYPE)
        return make_message(metadata=about, error=Error(ErrorCode.MESSAGE_UNAVAILABLE, reason))
