"""The time model of a fleet: seeded, the same for two runs of one seed, and what the formula says."""

from __future__ import annotations

import numpy as np
import pytest
from fake_fleet import fleet_config

from fedpeft.simulation.clock import VirtualClock
from fedpeft.simulation.devices import assign_devices, reply_seconds

CLASSES = [
    {"name": "tablet", "clients": 30, "step_seconds": 0.1, "up_mbps": 40.0, "down_mbps": 80.0},
    {"name": "speaker", "clients": 10, "step_seconds": 2.0, "up_mbps": 1.0, "down_mbps": 8.0},
]
CLIENTS = [f"c{k:02d}" for k in range(40)]


def fleet(seed=1):
    config = fleet_config(40, run__seed=seed).model_copy(update={"devices": _tables()})
    return assign_devices(config, CLIENTS)


def _tables():
    from fedpeft.config import DeviceTable

    return [DeviceTable(**table) for table in CLASSES]


def seconds(device, kind="train", **changes):
    told = {"bytes_down": 0, "bytes_up": 0, "steps": 0, "seed": 1, "round_number": 1, "client": "c00"}
    return reply_seconds(device, kind, **{**told, **changes})


def test_every_class_gets_its_number_of_clients_and_the_deal_is_seeded():
    dealt = [fleet()[client].table.name for client in CLIENTS]
    assert dealt.count("tablet") == 30
    assert dealt != sorted(dealt, reverse=True), "dealt at random, not in order"
    assert dealt == [fleet()[client].table.name for client in CLIENTS]
    assert dealt != [fleet(2)[client].table.name for client in CLIENTS]


def test_speeds_vary_around_their_class():
    logs = np.log([device.speed for device in fleet().values()])
    assert 0.08 < logs.std() < 0.25
    assert abs(logs.mean()) < 0.1


def test_seconds_are_down_plus_work_plus_up():
    device = next(device for device in fleet().values() if device.table.name == "speaker")
    assert seconds(device, bytes_down=1_000_000) == pytest.approx(1.0)
    assert seconds(device, bytes_up=1_000_000) == pytest.approx(8.0)
    work = seconds(device, steps=10)
    assert work == pytest.approx(20.0 * device.speed, rel=0.3)
    assert seconds(device, steps=10, bytes_down=1_000_000, bytes_up=1_000_000) == pytest.approx(work + 9.0)
    assert seconds(device, "hello", steps=10) == 0.0
    assert 0 < seconds(device, "evaluate", steps=10) < work


def test_each_reply_varies_and_two_runs_of_one_seed_agree():
    device = fleet()["c00"]
    times = [seconds(device, steps=10, round_number=n) for n in range(1, 50)]
    assert len(set(times)) == 49
    assert times == [seconds(device, steps=10, round_number=n) for n in range(1, 50)]
    assert times[0] != seconds(device, steps=10, seed=2)


def test_waiting_on_a_virtual_clock_costs_nothing_and_never_goes_back():
    clock = VirtualClock()
    clock.sleep(1e9)
    clock.sleep(-5)
    assert clock.now() == 1e9
