"""Replies of a SuperLink's Grid: each taken when it is all there, and no reply waits for another's objects."""

from __future__ import annotations

import time
from types import SimpleNamespace

import pytest
from flwr.app import Message, MessageType, RecordDict
from flwr.common.serde import message_to_proto
from flwr.proto.node_pb2 import Node
from flwr.supercore.inflatable.inflatable_object import get_all_nested_objects, get_object_tree
from flwr.supercore.run import Run
from flwr.superlink.grid import HttpGrid

from fedpeft.flower import GridTransport, compat
from fedpeft.flower.compat import replies
from fedpeft.flower.compat.replies import LISTED_TOGETHER
from fedpeft.flower.envelope import pack
from fedpeft.types import MessageId
from fedpeft.wire.limits import FrameLimits

GARBAGE = [b"Message  9\0\xff\xff garbag", b"MetricRecord  2\0{}", b"Message  0\0"]


class SuperLink:
    """The runtime client of a SuperLink that lists each reply once and asks for objects by name.

    Args:
        frames: by the message that is answered.
    """

    def __init__(self, frames):
        self.listed, self.confirmed, self.requests, self.pulled = {}, [], [], []
        self.late, self.gone, self.objects, self.names = set(), set(), {}, {}
        for asked, frame in frames.items():
            reply = Message(pack(frame), reply_to=_asked(asked))
            compat.set_message_id(reply, reply.object_id)
            parts = get_all_nested_objects(reply)
            self.objects |= {name: part.deflate() for name, part in parts.items()}
            self.names[asked] = reply.object_id
            self.listed[asked] = message_to_proto(reply), get_object_tree(reply)

    def PullMessages(self, request):
        self.requests.append(list(request.message_ids))
        found = [self.listed.pop(name) for name in request.message_ids if name in self.listed]
        return SimpleNamespace(messages_list=[f[0] for f in found], message_object_trees=[f[1] for f in found])

    def PullObject(self, request):
        name = request.object_id
        if name in self.late:
            return SimpleNamespace(object_found=True, object_available=False, object_content=b"")
        if name in self.gone:
            return SimpleNamespace(object_found=False, object_available=False, object_content=b"")
        self.pulled.append(name)
        return SimpleNamespace(object_found=True, object_available=True, object_content=self.objects[name])

    def ConfirmMessageReceived(self, request):
        self.confirmed.append(request.message_object_id)


def _asked(name):
    one = Message(RecordDict(), dst_node_id=7, message_type=MessageType.TRAIN)
    compat.set_message_id(one, name)
    return one


@pytest.fixture
def over():
    """A SuperLink with these replies, and a transport over its Grid."""
    compat.assume_identity(1)

    def make(**frames):
        link, grid = SuperLink(frames), object.__new__(HttpGrid)
        grid._run, grid._client = Run.create_empty(1), link
        grid.node = Node(node_id=1)
        return link, GridTransport(grid, ttl=60.0)

    return make


def received(transport, names):
    return {str(one.message): one for one in transport.receive([MessageId(name) for name in names])}


def awaited(transport, name):
    """The reply, within five seconds: one that was on its way is not looked at with every pull."""
    until = time.monotonic() + 5
    while time.monotonic() < until:
        if name in (found := received(transport, [name])):
            return found[name]
    raise AssertionError(f"no reply to {name}")


def test_a_reply_on_its_way_holds_up_nobody(over):
    link, transport = over(a=b"A" * 50, b=b"B" * 50, c=b"C" * 50)
    link.late = {link.names["b"]}
    assert {name: one.frame for name, one in received(transport, "abc").items()} == {"a": b"A" * 50, "c": b"C" * 50}
    assert received(transport, "b") == {}
    link.late = set()
    assert awaited(transport, "b").frame == b"B" * 50
    assert link.requests == [["a", "b", "c"]], "what was listed is not asked for again: the SuperLink has forgotten it"
    assert set(link.confirmed) == set(link.names.values())


def test_what_is_here_of_a_reply_is_not_pulled_again(over):
    link, transport = over(a=b"A" * 50)
    link.late = {link.names["a"]}
    while len(set(link.pulled)) < len(link.objects) - 1:  # threads look for the objects; the late one stops the others
        assert received(transport, "a") == {}
    link.late = set()
    assert awaited(transport, "a").frame == b"A" * 50
    assert len(link.pulled) <= len(link.objects) + 2


def test_a_node_that_was_cut_off_is_its_own_failure(over):
    link, transport = over(a=b"A", b=b"B")
    link.gone = {link.names["b"]}
    found = received(transport, "ab")
    assert found["a"].frame == b"A"
    assert found["b"].frame is None
    assert "the reply was not sent to its end" in found["b"].failure


def test_a_reply_larger_than_a_frame_may_be_is_not_read_to_its_end(over):
    link, transport = over(a=b"A" * 500_000, b=b"B")
    transport.limit(FrameLimits(max_body_bytes=100_000))
    found = received(transport, "ab")
    assert found["b"].frame == b"B"
    assert "limits.max_frame_mb" in found["a"].failure
    assert link.names["a"] in link.confirmed, "the SuperLink may forget it"


def test_nothing_is_kept_of_a_reply_that_nobody_waits_for_any_more(over):
    link, transport = over(a=b"A", b=b"B")
    link.late = {link.names["a"]}
    assert received(transport, "ab").keys() == {"b"}
    link.late, link.listed = set(), {}
    assert received(transport, "x") == {}
    assert transport._replies._coming == {}


def test_a_large_cohort_is_asked_for_in_parts(over):
    link, transport = over(a=b"A")
    names = ["a", *(f"n{place}" for place in range(LISTED_TOGETHER + 5))]
    assert received(transport, names)["a"].frame == b"A"
    assert [len(request) for request in link.requests] == [LISTED_TOGETHER, 6]


@pytest.mark.parametrize("garbage", GARBAGE)
def test_a_reply_that_cannot_be_read_is_its_senders_failure_alone(over, garbage):
    link, transport = over(a=b"frame of a", b=b"frame of b", c=b"frame of c")
    link.objects[link.names["b"]] = garbage
    found = received(transport, "abc")
    assert (found["a"].frame, found["c"].frame) == (b"frame of a", b"frame of c")
    assert found["b"].frame is None
    assert "the reply cannot be read" in found["b"].failure


def test_a_slow_line_is_looked_at_less_and_less_often(over, monkeypatch):
    link, transport = over(a=b"A")
    link.late = set(link.objects)
    asked, now = [], 0.0
    monkeypatch.setattr(replies.time, "monotonic", lambda: now)
    pull = link.PullObject
    monkeypatch.setattr(link, "PullObject", lambda request: asked.append(now) or pull(request))
    while now < 30:
        received(transport, "a")
        now += 0.01
    looks = sorted(set(asked))
    assert looks[1] - looks[0] < 0.05
    assert 0.9 < looks[-1] - looks[-2] < 1.1
