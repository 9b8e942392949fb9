"""A node on a slow line, over a real SuperLink: the replies of the others do not wait for it."""

from __future__ import annotations

import threading
import time

import pytest
from bare_superlink import bare_superlink
from flwr.app import Message
from flwr.supercore.inflatable.inflatable_object import (
    get_all_nested_objects,
    get_object_tree,
    no_object_id_recompute,
)
from flwr.supercore.inflatable.inflatable_utils import push_objects

from fedpeft.flower import GridTransport
from fedpeft.flower.compat import set_message_id
from fedpeft.flower.compat.node import SuperLink, connect
from fedpeft.flower.compat.task import server_task
from fedpeft.flower.envelope import pack
from fedpeft.simulation.engines import superlink
from fedpeft.types import Outgoing

pytestmark = [pytest.mark.system, pytest.mark.timeout(300)]


@pytest.fixture
def nodes(tmp_path):
    """A transport over a SuperLink, and the connections of two nodes: c00 and c01."""
    with bare_superlink(tmp_path) as found:
        found.operator.start_run(superlink.APP, {"run-file": "x"})
        link = SuperLink(found.address, found.authority)
        with (
            server_task(found.address, found.authority, found.credentials.secret.read_bytes()) as grid,
            connect(link, found.keys["c00"], patience_s=20) as first,
            connect(link, found.keys["c01"], patience_s=20) as second,
        ):
            yield GridTransport(grid, ttl=600), first, second


def answer_slowly(node, asked, frame, on_its_way):
    """Push the head of a reply, and its objects when `on_its_way` is set."""
    reply = Message(pack(frame), reply_to=asked)
    set_message_id(reply, reply.object_id)
    with no_object_id_recompute():
        tree, objects = get_object_tree(reply), get_all_nested_objects(reply)
        missing, session = node._send(reply, tree, 1.0)

    def push():
        on_its_way.wait(60)
        with no_object_id_recompute():
            run = reply.metadata.run_id
            push_objects(objects, lambda n, c: node._push_object(run, session, n, c), object_ids_to_push=missing)

    line = threading.Thread(target=push)
    line.start()
    return line


def received(transport, wanted, ids):
    """The frames that come until the wanted one is there, within half a minute."""
    frames, until = {}, time.monotonic() + 30
    while wanted not in frames and time.monotonic() < until:
        frames |= {one.message: one.frame for one in transport.receive(ids)}
        time.sleep(0.05)
    return frames


def test_a_reply_on_a_slow_line_holds_up_no_other(nodes):
    transport, first, second = nodes
    ids = transport.send([Outgoing(n.node_id, c, "train", b"x") for n, c in ((first, "c00"), (second, "c01"))])
    on_its_way = threading.Event()
    line = answer_slowly(second, second.pull(), b"slow" * 1000, on_its_way)
    try:
        first.push(Message(pack(b"fast" * 1000), reply_to=first.pull()), 1.0)
        assert received(transport, ids[0], ids) == {ids[0]: b"fast" * 1000}
        assert transport.receive([ids[1]]) == [], "it is listed, and not all there"
    finally:
        on_its_way.set()
        line.join()
    assert received(transport, ids[1], ids[1:]) == {ids[1]: b"slow" * 1000}
