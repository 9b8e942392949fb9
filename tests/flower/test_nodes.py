"""One process that answers for several nodes, without a SuperLink: connections are scripted."""

from __future__ import annotations

import threading

import pytest
from flwr.app import Error, Message, MessageType
from flwr.app.message import make_message
from flwr.clientapp import ClientApp

from fedpeft.errors import ClientFault, RoundError
from fedpeft.flower import compat, make_client_app
from fedpeft.flower.envelope import pack, unpack
from fedpeft.flower.nodes import answer, serve_nodes


@pytest.fixture(autouse=True)
def _identity():
    compat.assume_identity(1)


class Connection:
    """Hands out messages, one a look; keeps the replies."""

    def __init__(self, node_id, *messages):
        self.node_id = node_id
        self.waiting = list(messages)
        self.sent = []
        self.refused_at = ""
        self.closed = False

    def pull(self):
        self._asked("pull")
        return self.waiting.pop(0) if self.waiting else None

    def push(self, reply, seconds):
        assert seconds >= 0
        self._asked("push")
        self.sent.append(reply)

    def close(self):
        self.closed = True

    def _asked(self, what):
        assert not self.closed
        if what == self.refused_at:
            raise RoundError(f"the SuperLink refuses node {self.node_id}", code="engine.node-refused")


def message(frame, kind=MessageType.TRAIN, node=7):
    one = Message(pack(frame), dst_node_id=node, message_type=kind)
    compat.set_message_id(one, frame.hex())
    return one


def app_of(act):
    app = ClientApp()

    def reply(message, context):
        return Message(pack(act(str(context.node_config["client"]), unpack(message))), reply_to=message)

    app.train()(reply)
    app.query()(reply)
    return app


def serve(app, nodes, **more):
    """Until everything is answered."""
    stopped = threading.Event()

    class Enough(threading.Event):
        def wait(self, timeout=None):  # called when a look found nothing
            stopped.set()
            return True

        def is_set(self):
            return stopped.is_set()

    serve_nodes(app, nodes, Enough(), poll_s=0.0, **more)


def test_each_node_is_answered_for_its_own_client():
    app = app_of(lambda client, frame: client.encode() + b":" + frame)
    nodes = {"c00": Connection(1, message(b"a"), message(b"b")), "c01": Connection(2, message(b"c"))}
    serve(app, nodes)
    assert [unpack(reply) for reply in nodes["c00"].sent] == [b"c00:a", b"c00:b"]
    assert [unpack(reply) for reply in nodes["c01"].sent] == [b"c01:c"]
    assert nodes["c01"].sent[0].metadata.reply_to_message_id == b"c".hex()


def test_training_messages_that_came_together_are_trained_together():
    seen = []
    nodes = {
        "c00": Connection(1, message(b"a"), message(b"b")),
        "c01": Connection(2, message(b"c")),
        "c02": Connection(3, message(b"hello", MessageType.QUERY)),
    }
    serve(app_of(lambda client, frame: frame), nodes, train_ahead=lambda requests: seen.append(list(requests)))
    assert seen == [[("c00", b"a"), ("c01", b"c")]], "no hello, and nothing that came alone"
    assert [len(node.sent) for node in nodes.values()] == [2, 1, 1]


@pytest.mark.parametrize(
    ("raised", "words"),
    [(ClientFault("client c00: no", code="client.no"), "client c00: no"), (ValueError("odd"), "ValueError: odd")],
    ids=["fault", "bug"],
)
def test_what_an_app_raises_costs_its_client_the_answer_and_nobody_else(raised, words, caplog):
    def act(client, frame):
        if client == "c00":
            raise raised
        return frame

    nodes = {"c00": Connection(1, message(b"a")), "c01": Connection(2, message(b"b"))}
    serve(app_of(act), nodes)
    (error,), (reply,) = nodes["c00"].sent, nodes["c01"].sent
    assert error.has_error()
    assert (error.error.code, error.error.reason) == (2, words)
    assert words in caplog.text, "who looks after the device is told as well"
    assert unpack(reply) == b"b"


def test_a_message_that_holds_no_frame_is_no_training():
    from flwr.app import RecordDict

    empty = Message(RecordDict(), dst_node_id=7, message_type=MessageType.TRAIN)
    compat.set_message_id(empty, "m")
    app = app_of(lambda client, frame: frame)
    assert answer(app, "c00", 1, empty).has_error()
    seen = []
    nodes = {"c00": Connection(1, empty), "c01": Connection(2, message(b"b"))}
    serve(app, nodes, train_ahead=seen.append)
    assert seen == []


@pytest.mark.parametrize("at", ["pull", "push"])
def test_a_node_that_is_refused_is_left_out_and_the_others_are_served_on(at, caplog):
    nodes = {"c00": Connection(1, message(b"a")), "c01": Connection(2, message(b"b"), message(b"c"))}
    nodes["c00"].refused_at = at
    serve(app_of(lambda client, frame: frame), nodes)
    assert [unpack(reply) for reply in nodes["c01"].sent] == [b"b", b"c"]
    assert (nodes["c00"].sent, nodes["c00"].closed, nodes["c01"].closed) == ([], True, False)
    assert "client c00: the SuperLink refuses node 1; it is served no more, others are: c01" in caplog.text


def test_when_no_node_is_left_the_service_ends_with_an_error():
    nodes = {"c00": Connection(1), "c01": Connection(2)}
    for node in nodes.values():
        node.refused_at = "pull"
    with pytest.raises(RoundError, match="client c01: the SuperLink refuses node 2") as caught:
        serve(app_of(lambda client, frame: frame), nodes)
    assert (caught.value.code, caught.value.exit_status) == ("engine.node-refused", 6)


@pytest.mark.parametrize("kind", [MessageType.TRAIN, MessageType.EVALUATE, MessageType.QUERY])
def test_a_message_that_holds_an_error_costs_its_client_the_answer_and_nobody_else(kind):
    """A SuperLink takes one from whoever runs a ServerApp on it."""
    wrong = message(b"a", kind)
    wrong = make_message(metadata=wrong.metadata, error=Error(0, "odd"))
    nodes = {"c00": Connection(1, wrong), "c01": Connection(2, message(b"b"))}
    serve(make_client_app(lambda node, run: (Echo(), node["client"])), nodes)
    (error,), (reply,) = nodes["c00"].sent, nodes["c01"].sent
    assert error.error.reason == "the message holds no frame, but an error"
    assert unpack(reply) == b"b"


class Echo:
    """An agent."""

    mods = ()

    def handle(self, client, frame):
        return frame
