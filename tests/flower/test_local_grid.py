"""The in-process Grid: an unmodified ClientApp, replies in due order, Flower's wire, faults, a stock strategy."""

from __future__ import annotations

import logging

import numpy as np
import pytest
from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp.strategy import FedAvg

from fedpeft.errors import ClientFault
from fedpeft.flower import GridTransport, LocalGrid
from fedpeft.flower.envelope import pack, unpack
from fedpeft.simulation.clock import VirtualClock
from fedpeft.types import ClientId, NodeId, Outgoing

NODES = {NodeId(k): {"client": f"c{k:02d}"} for k in (1, 2, 3, 4)}


def echo_app():
    """Answers a frame with the client's name and the frame, backwards."""
    app = ClientApp()

    def answer(message, context):
        frame = unpack(message)
        if frame == b"crash":
            raise ValueError("the battery is empty")
        if frame == b"fault":
            raise ClientFault("client c00: bad data", code="test")
        name = str(context.node_config["client"]).encode()
        return Message(pack(name + b":" + frame[::-1]), reply_to=message)

    app.train()(answer)
    app.query()(answer)
    app.evaluate()(answer)
    return app


def make(**options):
    clock = VirtualClock()
    return LocalGrid(echo_app(), NODES, clock=clock, **options), clock


def message(node, frame=b"hello", kind="train"):
    return Message(pack(frame), dst_node_id=int(node), message_type=kind)


def receive(grid, ids):
    return [unpack(reply) for reply in grid.pull_messages(ids)]


def test_replies_come_when_they_are_due_and_in_that_order():
    grid, clock = make(seconds=lambda node, kind, frame: 10.0 - node)
    ids = list(grid.push_messages([message(node) for node in NODES]))
    assert receive(grid, ids) == []
    assert grid.next_due(ids) == 6.0
    clock.sleep(8.0)
    assert receive(grid, ids) == [b"c04:olleh", b"c03:olleh", b"c02:olleh"]
    clock.sleep(1.0)
    assert receive(grid, ids) == [b"c01:olleh"]
    assert receive(grid, ids) == [], "each reply is delivered once"
    assert grid.next_due(ids) is None


def test_nothing_is_computed_for_nobody():
    ran = []
    app = ClientApp()

    @app.train()
    def train(message, context):
        ran.append(context.node_config["client"])
        return Message(message.content, reply_to=message)

    clock = VirtualClock()
    grid = LocalGrid(app, NODES, clock=clock, seconds=lambda node, kind, frame: 1.0)
    first, second = grid.push_messages([message(1), message(2)])
    clock.sleep(5)
    assert len(list(grid.pull_messages([second]))) == 1
    assert ran == ["c02"]
    assert len(list(grid.pull_messages([first]))) == 1
    assert ran == ["c02", "c01"]


@pytest.mark.parametrize("through_wire", [False, True])
def test_a_client_app_that_raises_is_answered_for(through_wire):
    grid, _ = make(through_wire=through_wire)
    ids = list(grid.push_messages([message(1, b"crash"), message(2, b"fault"), message(3), message(99)]))
    replies = {reply.metadata.reply_to_message_id: reply for reply in grid.pull_messages(ids)}
    crash, fault, sound, nowhere = (replies[name] for name in ids)
    assert (crash.error.code, crash.error.reason) == (2, "ValueError: the battery is empty")
    assert (fault.error.code, fault.error.reason) == (2, "client c00: bad data")
    assert unpack(sound) == b"c03:olleh"
    assert nowhere.error.code == 5
    assert "no node 99" in nowhere.error.reason


@pytest.mark.parametrize("kind", ["train", "query", "evaluate", "train.head"])
@pytest.mark.parametrize("size", [0, 1, 1000, 6 * 2**20])
def test_the_wire_counts_more_than_the_frame_but_not_much(kind, size):
    if kind == "train.head":
        app = ClientApp()
        app.train("head")(lambda message, context: Message(message.content, reply_to=message))
        grid = LocalGrid(app, NODES, clock=VirtualClock(), through_wire=True)
    else:
        grid, _ = make(through_wire=True)
    frame = np.random.default_rng(0).bytes(size)
    ids = list(grid.push_messages([message(1, frame, kind)]))
    (reply,) = grid.pull_messages(ids)
    assert len(unpack(reply)) == size + (0 if kind == "train.head" else 4)
    name = {"query": "hello", "train.head": "train"}.get(kind, kind)
    for direction in ("down", "up"):
        counted = grid.traffic.bytes[f"{name}.{direction}"]
        assert size < counted < size + 2048
        assert grid.traffic.messages[f"{name}.{direction}"] == 1


def test_without_the_wire_nothing_is_counted_and_the_replies_are_the_same():
    plain, _ = make()
    wired, _ = make(through_wire=True)
    replies = [receive(grid, list(grid.push_messages([message(n) for n in NODES]))) for grid in (plain, wired)]
    assert replies[0] == replies[1]
    assert plain.traffic.bytes == {}


def test_look_ahead_is_given_what_comes_next_once_and_only_what_can_come():
    given = []
    grid, clock = make(
        seconds=lambda node, kind, frame: float("inf") if node == 4 else float(node),
        look_ahead=lambda requests: given.append([(int(node), frame) for node, frame in requests]),
        cohort=2,
    )
    ids = list(grid.push_messages([message(n, b"%d" % n) for n in NODES] + [message(1, b"q", "query")]))
    for _ in range(5):
        receive(grid, ids)
        clock.sleep(1.0)
    assert given == [[(1, b"1"), (2, b"2")], [(3, b"3")]]


def test_look_ahead_passes_over_what_is_not_wanted_and_leaves_it_in_its_place():
    given = []
    grid, clock = make(
        seconds=lambda node, kind, frame: float(node),
        look_ahead=lambda requests: given.append([int(node) for node, _ in requests]),
        cohort=2,
    )
    first, second, third, fourth = grid.push_messages([message(n) for n in NODES])
    clock.sleep(3.0)
    assert receive(grid, [second, fourth]) == [b"c02:olleh"]
    assert given == [[2, 4]]
    clock.sleep(1.0)
    assert receive(grid, [fourth, third, first]) == [b"c01:olleh", b"c03:olleh", b"c04:olleh"]
    assert given == [[2, 4], [1, 3]]


def test_messages_that_fall_due_at_once_are_answered_as_they_were_sent():
    grid, _ = make()
    ids = [name for n in (3, 1, 2) for name in grid.push_messages([message(n)])]
    assert receive(grid, reversed(ids)) == [b"c03:olleh", b"c01:olleh", b"c02:olleh"]


def test_rehearsed_faults_change_or_lose_a_reply():
    def distort(node, asked, reply):
        if node == 1:
            raise RuntimeError("crashed (rehearsed)")
        return reply.upper() if node == 2 else reply

    grid, _ = make(distort=distort)
    lost, loud, plain = grid.send_and_receive([message(n) for n in (1, 2, 3)])
    assert lost.error.reason == "RuntimeError: crashed (rehearsed)"
    assert unpack(loud) == b"C02:OLLEH"
    assert unpack(plain) == b"c03:olleh"


def test_send_and_receive_waits_on_the_grids_clock():
    grid, clock = make(seconds=lambda node, kind, frame: 100.0 * node)
    assert len(list(grid.send_and_receive([message(n) for n in NODES], timeout=250.0))) == 2
    assert clock.now() == 250.0
    assert len(list(grid.send_and_receive([message(n) for n in NODES]))) == 4
    assert clock.now() == 650.0


def test_send_and_receive_gives_up_on_nodes_that_never_answer():
    grid, clock = make(seconds=lambda node, kind, frame: float("inf") if node == 2 else 1.0)
    assert len(list(grid.send_and_receive([message(n) for n in NODES]))) == 3
    assert clock.now() == 1.0


# Someone else's apps


def test_a_stock_strategy_and_client_app_run_over_it(caplog):
    """Grid is Flower's own interface: its `FedAvg.start` runs over ours, with no frame of ours in sight."""
    app = ClientApp()

    @app.train()
    def train(message, context):
        arrays = message.content["arrays"].to_numpy_ndarrays()
        moved = [array + context.node_id for array in arrays]
        metrics = MetricRecord({"num-examples": 10, "loss": 1.0})
        content = RecordDict({"arrays": ArrayRecord(moved), "metrics": metrics})
        return Message(content, reply_to=message)

    @app.evaluate()
    def evaluate(message, context):
        (array,) = message.content["arrays"].to_numpy_ndarrays()
        return Message(
            RecordDict({"metrics": MetricRecord({"num-examples": 10, "sum": float(array.sum())})}), reply_to=message
        )

    grid = LocalGrid(app, NODES, clock=VirtualClock(), seconds=lambda node, kind, frame: 5.0, through_wire=True)
    with caplog.at_level(logging.CRITICAL):
        result = FedAvg(fraction_train=1.0, fraction_evaluate=1.0, min_available_nodes=4).start(
            grid, ArrayRecord([np.zeros(3, dtype=np.float32)]), num_rounds=2, train_config=ConfigRecord({"lr": 0.1})
        )
    (final,) = result.arrays.to_numpy_ndarrays()
    np.testing.assert_allclose(final, 2 * np.mean([1, 2, 3, 4]))
    assert result.evaluate_metrics_clientapp[2]["sum"] == pytest.approx(15.0)
    assert grid.traffic.messages["train.up"] == 8
    assert grid.clock.now() == 20.0


# The transport over it


def test_the_transport_moves_frames_and_matches_replies_by_the_message_they_answer():
    grid, clock = make(seconds=lambda node, kind, frame: 5.0 - node, through_wire=True)
    transport = GridTransport(grid, ttl=60.0)
    assert list(transport.nodes()) == [1, 2, 3, 4]
    out = [Outgoing(node, ClientId(config["client"]), "train", b"f%d" % node) for node, config in NODES.items()]
    ids = transport.send(out)
    clock.sleep(10)
    replies = {incoming.message: incoming.frame for incoming in transport.receive(ids)}
    assert replies == {name: b"c%02d:%d" % (k, k) + b"f" for k, name in enumerate(ids, start=1)}
    assert transport.traffic is grid.traffic


def test_an_error_reply_is_matched_by_the_message_it_answers_not_by_its_source():
    """Flower's error replies may carry the SuperLink's own node id."""
    grid, _ = make()
    transport = GridTransport(grid, ttl=60.0)
    (name,) = transport.send([Outgoing(NodeId(99), ClientId("c99"), "train", b"x")])
    ((incoming),) = transport.receive([name])
    assert incoming.message == name
    assert incoming.frame is None
    assert incoming.failure == "there is no node 99 (Flower code 5)"


def test_a_reply_tells_when_it_fell_due_however_late_anybody_looks():
    grid, clock = make(seconds=lambda node, kind, frame: 10.0 * node)
    transport = GridTransport(grid, ttl=60.0)
    out = [Outgoing(NodeId(node), ClientId(f"c{node:02d}"), "train", b"crash" if node == 2 else b"x") for node in NODES]
    clock.sleep(5.0)
    names = transport.send(out)
    clock.sleep(31.0)
    assert [reply.arrived for reply in transport.receive(names)] == [15.0, 25.0, 35.0]
    clock.sleep(100.0)
    assert [reply.arrived for reply in transport.receive(names)] == [45.0]
    assert transport.receive(names) == []
    assert len(grid.arrivals) <= 1, "nothing is kept of replies that were delivered"


def test_a_reply_without_a_frame_is_a_failure_with_the_reason():
    app = ClientApp()
    app.train()(lambda message, context: Message(RecordDict({"m": MetricRecord({"loss": 1.0})}), reply_to=message))
    transport = GridTransport(LocalGrid(app, NODES, clock=VirtualClock()), ttl=60.0)
    (name,) = transport.send([Outgoing(NodeId(1), ClientId("c01"), "train", b"x")])
    (incoming,) = transport.receive([name])
    assert incoming.frame is None
    assert "holds no frame" in incoming.failure


class Refusing:
    """What Flower's Grid does to a batch that is too large, or with one message that failed."""

    def __init__(self, ids):
        self.ids = ids

    def push_messages(self, messages):
        return self.ids

    def pull_messages(self, ids):
        raise AssertionError("nothing was asked for")


@pytest.mark.parametrize(("ids", "expected"), [([], [None, None]), (["a", None], ["a", None])])
def test_messages_that_could_not_be_sent_are_told(ids, expected):
    transport = GridTransport(Refusing(ids), ttl=60.0)
    out = [Outgoing(NodeId(k), ClientId(f"c{k}"), "train", b"x") for k in (1, 2)]
    assert transport.send(out) == expected
    assert transport.receive([]) == []
    assert transport.traffic.messages.get("train.down", 0) == sum(name is not None for name in expected)
