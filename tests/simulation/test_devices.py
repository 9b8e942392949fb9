"""The time model of a fleet: seeded, the same for two runs of one seed, and what the formula says."""

from __future__ import annotations

import numpy as np
import pytest
from fake_fleet import fleet_config
from tiny import run_tiny

from fedpeft.journal import EventKind, Journal
from fedpeft.simulation.clock import VirtualClock
from fedpeft.simulation.devices import assign_devices, fleet_notes, reply_seconds

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


@pytest.mark.parametrize("inequality", [0.0, 0.5, 2.0])
def test_a_fleet_more_or_less_unequal_is_as_fast_in_the_geometric_mean(inequality):
    config = fleet_config(40, devices=CLASSES, fleet__inequality=inequality)
    tablet, speaker = config.device_classes
    for key, ratio in (("step_seconds", 20), ("up_mbps", 1 / 40), ("down_mbps", 1 / 10)):
        was = [table[key] for table in CLASSES]
        now = [getattr(tablet, key), getattr(speaker, key)]
        assert now[1] / now[0] == pytest.approx(ratio**inequality)
        assert 30 * np.log(now[0]) + 10 * np.log(now[1]) == pytest.approx(30 * np.log(was[0]) + 10 * np.log(was[1]))
    assert [tablet.memory_mb, speaker.clients] == [4096, 10]
    assert {device.table for device in assign_devices(config, CLIENTS).values()} == {tablet, speaker}
    notes = fleet_notes(config)
    assert len(notes) == 2
    assert f"class speaker takes {speaker.step_seconds:.3g} s a step" in notes[1]


def test_a_fleet_as_it_is_told_stays_so_to_the_bit():
    config = fleet_config(40, devices=CLASSES)
    assert config.device_classes == config.devices
    assert fleet_notes(config) == []


def test_in_a_run_only_times_follow_from_how_unequal_the_fleet_is(tmp_path):
    devices = [{"name": "tablet", "clients": 2, "step_seconds": 0.1}, {"name": "speaker", "clients": 3}]
    found = {
        inequality: run_tiny(tmp_path / str(inequality), devices=devices, fleet__inequality=inequality)
        for inequality in (1.0, 3.0)
    }
    assert len({result.adapter_hash for result in found.values()}) == 1
    ends = []
    for result in found.values():
        with Journal.read(result.folder) as journal:
            ends.append(sum(event.payload["seconds"] for event in journal.events(EventKind.COMMITTED)))
    assert ends[1] > 2 * ends[0]


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
