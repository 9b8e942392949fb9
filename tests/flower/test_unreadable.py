"""Bytes that are no message, on either side: they cost their sender an answer, and nobody else anything."""

from __future__ import annotations

import logging
import ssl

import httpx
import pytest
from flwr.app import Error, Message, MessageType, RecordDict
from flwr.supercore.inflatable.inflatable_utils import ObjectPullError, ObjectPushError

from fedpeft.flower import GridTransport, compat
from fedpeft.flower.compat import node as node_module
from fedpeft.flower.compat.node import NodeConnection
from fedpeft.flower.envelope import pack
from fedpeft.types import MessageId
from fedpeft.wire.limits import REASON


@pytest.fixture(autouse=True)
def _identity():
    compat.assume_identity(1)


def asked(name):
    one = Message(RecordDict(), dst_node_id=7, message_type=MessageType.TRAIN)
    compat.set_message_id(one, name)
    return one


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
    refused(403),
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


@pytest.mark.parametrize("error", [httpx.ConnectError("tls"), ssl.SSLError("cut")], ids=repr)
def test_what_is_wrong_with_the_connection_ends_it(error):
    with pytest.raises(type(error)):
        connection(error).pull()
    with pytest.raises(type(error)):
        connection(push=error).push(Message(pack(b"x"), reply_to=asked("a")), 0.0)
