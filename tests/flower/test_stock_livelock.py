"""What Flower's own loop does with devices that are all slower than its timeout, beside what ours does.

The scenario was run on a SuperLink with Flower 1.41: 2 nodes that need 14 s, a timeout of 8 s, 5 rounds. Every round
aggregated 0 replies, without an error: a reply that comes after its round is never pulled. Here it is the same loop,
`Strategy.start`, over our Grid and its virtual clock. Ours over scripted clients with these times, synchronous and
asynchronous: tests/server/test_buffered_round.py, `test_all_slower_than_the_deadline_still_count`.
"""

import logging

import numpy as np
import pytest
from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp.strategy import FedAvg

from fedpeft.flower import LocalGrid
from fedpeft.simulation.clock import VirtualClock
from fedpeft.types import NodeId

NODES = {NodeId(k): {"client": f"c{k:02d}"} for k in (1, 2)}


def run_stock_loop(seconds, timeout):
    """Flower's FedAvg for 5 rounds. Returns how many replies each round aggregated, and the final array."""
    app, aggregated = ClientApp(), []

    @app.train()
    def train(message, context):
        moved = [array + 1 for array in message.content["arrays"].to_numpy_ndarrays()]
        metrics = MetricRecord({"num-examples": 10})
        return Message(RecordDict({"arrays": ArrayRecord(moved), "metrics": metrics}), reply_to=message)

    class Counting(FedAvg):
        def aggregate_train(self, server_round, replies):
            replies = list(replies)
            aggregated.append(len(replies))
            return super().aggregate_train(server_round, replies)

    grid = LocalGrid(app, NODES, clock=VirtualClock(), seconds=lambda node, kind, frame: seconds)
    start = ArrayRecord([np.zeros(3, dtype=np.float32)])
    result = Counting(fraction_train=1.0, fraction_evaluate=0.0).start(
        grid, start, num_rounds=5, timeout=timeout, train_config=ConfigRecord({"lr": 0.1})
    )
    return aggregated, result.arrays.to_numpy_ndarrays()


@pytest.fixture(autouse=True)
def quiet(caplog):
    caplog.set_level(logging.CRITICAL)


def test_flowers_own_loop_aggregates_nothing_and_says_nothing():
    aggregated, arrays = run_stock_loop(seconds=14.0, timeout=8.0)
    assert aggregated == [0] * 5
    assert arrays == []


def test_it_does_when_the_devices_are_in_time():
    aggregated, (final,) = run_stock_loop(seconds=7.0, timeout=8.0)
    assert aggregated == [2] * 5
    np.testing.assert_array_equal(final, 5)
