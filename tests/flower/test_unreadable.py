"""Bytes that are no message, on either side: they cost their sender an answer, and nobody else anything."""

from __future__ import annotations

import logging
import ssl
from types import SimpleNamespace

import httpx
import pytest
from flwr.app import Error, Message, MessageType, RecordDict
from flwr.common.serde import message_to_proto
from flwr.supercore.inflatable.inflatable_object import get_all_nested_objects, get_object_tree
from flwr.supercore.inflatable.inflatable_utils import ObjectPullError, ObjectPushError
from flwr.supercore.run import Run
from flwr.superlink.grid import HttpGrid, http_grid

from fedpeft.flower import GridTransport, compat
from fedpeft.flower.compat import node as node_module
from fedpeft.flower.compat import replies
from fedpeft.flower.compat.node import NodeConnection
from fedpeft.flower.envelope import pack
from fedpeft.types import MessageId
from fedpeft.wire.limits import REASON

GARBAGE = [b"Message  9\0\xff\xff garbag", b"MetricRecord  2\0{}", b"Message  0\0"]


@pytest.fixture(autouse=True)
def _identity():
    compat.assume_identity(1)


def asked(name):
    one = Message(RecordDict(), dst_node_id=7, message_type=MessageType.TRAIN)
    compat.set_message_id(one, name)
    return one


class Client:
    """The runtime client of a SuperLink that has these replies; `spoilt` are bytes in place of a reply's own."""

    def __init__(self, *held, spoilt):
        self.held, self.spoilt, self.objects = held, spoilt, {}

    def pull(self, request):
        protos, trees = [], []
        for reply in self.held:
            compat.set_message_id(reply, reply.object_id)
            objects = get_all_nested_objects(reply)
            self.objects |= {name: part.deflate() for name, part in objects.items()}
            if reply.metadata.reply_to_message_id in self.spoilt:
                self.objects[reply.object_id] = self.spoilt[reply.metadata.reply_to_message_id]
            protos.append(message_to_proto(reply))
            trees.append(get_object_tree(reply))
        return SimpleNamespace(messages_list=protos, message_object_trees=trees)

    def PullObject(self, request):
        return SimpleNamespace(object_found=True, object_available=True, object_content=self.objects[request.object_id])

    def ConfirmMessageReceived(self, request):
        return None


@pytest.mark.parametrize("garbage", GARBAGE)
def test_a_reply_that_cannot_be_read_is_its_senders_failure_alone(monkeypatch, garbage):
    monkeypatch.setattr(replies, "_pull", lambda client, request: client.pull(request))
    monkeypatch.setattr(http_grid, "inflate_object_from_contents", http_grid.inflate_object_from_contents)
    monkeypatch.setattr(http_grid.RuntimeHttpClient, "PullMessages", None)
    held = [Message(pack(b"frame of " + name.encode()), reply_to=asked(name)) for name in ("a", "b", "c")]
    client = Client(*held, spoilt={"b": garbage})
    grid = object.__new__(HttpGrid)
    grid._run, grid._client = Run.create_empty(1), client
    grid.node = SimpleNamespace(node_id=1)
    replies.apart(grid)
    monkeypatch.setattr(Client, "PullMessages", http_grid.RuntimeHttpClient.PullMessages, raising=False)
    monkeypatch.setattr(http_grid, "PullAppMessagesRequest", lambda **named: named)
    monkeypatch.setattr(http_grid, "ConfirmMessageReceivedRequest", lambda **named: named)
    monkeypatch.setattr(
        http_grid,
        "make_pull_object_fn_protobuf",
        lambda **named: lambda name: client.PullObject(SimpleNamespace(object_id=name)).object_content,
    )
    found = {one.message: one for one in GridTransport(grid, ttl=60.0).receive([MessageId(n) for n in "abc"])}
    assert (found["a"].frame, found["c"].frame) == (b"frame of a", b"frame of c")
    assert found["b"].frame is None
    assert "the reply cannot be read" in found["b"].failure


def test_a_reason_is_bounded_and_printable():
    class Grid:
        def pull_messages(self, ids):
            yield Message(Error(2, "\x1b[2J" + "A" * 1_000_000), reply_to=asked("a"))
            content = RecordDict()
            content["x" * 1_000_000] = next(iter(pack(b"").values()))
            yield Message(content, reply_to=asked("b"))

    long, named = GridTransport(Grid(), ttl=60.0).receive([MessageId("a"), MessageId("b")])
    assert len(long.failure) < REASON + 30
    assert long.failure.isprintable()
    assert named.failure.startswith("the message holds no frame, but 1 records")
    assert len(named.failure) < REASON


def refused(status):
    request = httpx.Request("POST", "http://x")
    return httpx.HTTPStatusError("no", request=request, response=httpx.Response(status, request=request))


def connection(pull=None, push=None):
    """A node's connection whose calls raise."""

    def fail(error):
        def call(*_):
            raise error

        return call

    return NodeConnection(5, [fail(pull), fail(push), None, None, None, None, None])


LOST = [
    ObjectPullError("ab", "gone"),
    ObjectPushError("ab", 1, "late"),
    IndexError("list"),
    TypeError("odd"),
    refused(404),
]


@pytest.mark.parametrize("error", LOST, ids=lambda error: type(error).__name__)
def test_a_node_goes_on_without_a_message_that_it_cannot_read_or_send(error, monkeypatch):
    said = []
    monkeypatch.setattr(node_module, "log", lambda level, text, *more: said.append((level, text % more)))
    node = connection(error, error)
    assert node.pull() is None
    node.push(Message(pack(b"x"), reply_to=asked("a")), 0.0)
    assert [level for level, _ in said] == [logging.WARNING] * 2
    assert "node 5: a message could not be read: " in said[0][1]
    assert "node 5: an answer could not be sent: " in said[1][1]


@pytest.mark.parametrize(
    "error", [refused(401), refused(403), httpx.ConnectError("tls"), ssl.SSLError("cut")], ids=repr
)
def test_what_is_wrong_with_the_connection_ends_it(error):
    with pytest.raises(type(error)):
        connection(error).pull()
    with pytest.raises(type(error)):
        connection(push=error).push(Message(pack(b"x"), reply_to=asked("a")), 0.0)
