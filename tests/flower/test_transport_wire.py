"""Bytes at Flower's wire, counted by the transport where a Grid does not count its own."""

from __future__ import annotations

import pytest
from flwr.app import Error, Message

from fedpeft.flower import GridTransport, LocalGrid, compat, make_client_app
from fedpeft.flower.envelope import pack
from fedpeft.simulation.clock import VirtualClock
from fedpeft.types import ClientId, NodeId, Outgoing, Traffic


@pytest.fixture(autouse=True)
def _identity():
    compat.assume_identity(1)


class Echo:
    """A Grid as Flower's own: it counts nothing. Node 2 fails."""

    def __init__(self):
        self.sent = {}

    def push_messages(self, messages):
        for message in messages:
            compat.set_message_id(message, f"m{len(self.sent)}")
            self.sent[message.metadata.message_id] = message
        return list(self.sent)

    def pull_messages(self, ids):
        replies = []
        for name in list(ids):
            message = self.sent.pop(name)
            failed = message.metadata.dst_node_id == 2
            content = Error(2, "no") if failed else pack(b"y" * 3000)
            replies.append(Message(content, reply_to=message))
        return replies


def send(transport):
    out = [
        Outgoing(NodeId(1), ClientId("c00"), "train", b"x" * 1000),
        Outgoing(NodeId(2), ClientId("c01"), "train", b"x" * 1000),
    ]
    ids = transport.send(out)
    return transport.receive(ids)


def test_messages_and_replies_are_counted_by_kind():
    transport = GridTransport(Echo(), ttl=60.0)
    good, bad = send(transport)
    assert good.frame == b"y" * 3000
    assert bad.frame is None
    traffic = transport.traffic
    assert traffic.messages == {"train.down": 2, "train.up": 2}
    assert 2 * 1000 < traffic.bytes["train.down"] < 2 * 2000
    assert 3000 < traffic.bytes["train.up"] < 5000
    assert transport._out == {}, "nothing is kept of a message that was answered"


def test_not_to_count_is_possible():
    transport = GridTransport(Echo(), ttl=60.0, count=False)
    send(transport)
    assert transport.traffic == Traffic()


def test_a_grid_that_counts_is_left_to_it():
    grid = LocalGrid(make_client_app(lambda node, run: None), {NodeId(1): {}}, clock=VirtualClock(), through_wire=True)
    transport = GridTransport(grid, ttl=60.0)
    assert transport.traffic is grid.traffic
    transport.send([Outgoing(NodeId(1), ClientId("c00"), "train", b"x" * 1000)])
    assert transport.traffic.messages == {"train.down": 1}
