"""What a coordinator holds depends neither on how long it runs nor on how many clients answer."""

from __future__ import annotations

import gc
import tracemalloc

import pytest
from fake_fleet import FakeFleet, FakeRun

from fedpeft.journal import EventKind


@pytest.mark.slow
def test_memory_is_flat_over_200_rounds_of_1000_clients(tmp_path):
    fleet = FakeFleet(1000)
    fleet.remember = False
    fleet["c07"].seconds = float("inf")  # some are never heard of again
    for client in fleet.clients[500:520]:
        client.seconds = 15.0  # and some are always late
    run = FakeRun(
        fleet, tmp_path, run__rounds=200, round__ask=12, round__deadline_s=10.0, round__late="fold", codec__down="int8"
    )
    held = {}

    def measure(event):
        if event.kind is EventKind.COMMITTED and event.round in (40, 80, 200):
            gc.collect()
            held[event.round] = tracemalloc.get_traced_memory()[0]

    run.journal.subscribe(measure)
    tracemalloc.start()
    try:
        run.run()
    finally:
        tracemalloc.stop()
    assert held[200] - held[80] < 300_000, f"bytes held after rounds: {held}"


def _peak_of_one_round(folder, clients, size=20_000):
    fleet = FakeFleet(clients, size)
    fleet.remember = False
    run = FakeRun(fleet, folder, run__rounds=1, round__deadline_s=100.0)
    for index, client in enumerate(fleet.clients):
        client.seconds = 1.0 + index / 4  # one answers with each look
    tracemalloc.start()
    try:
        run.run()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.slow
def test_replies_are_folded_as_they_come(tmp_path):
    """300 frames of 80 kB down and 300 up are 48 MB: a round holds what one look brings, not all of them."""
    few, many = _peak_of_one_round(tmp_path / "few", 16), _peak_of_one_round(tmp_path / "many", 300)
    assert many - few < 5_000_000, f"peak bytes: {few} with 16 clients, {many} with 300"
