"""The time model of a fleet: how long a device takes from being asked to having answered.

    seconds = bytes_down · 8 / down_rate  +  steps · step_seconds · speed · share · heat  +  bytes_up · 8 / up_rate

`share` is what the plan's rank and mask leave of a full step's arithmetic (`fedpeft.simulation.arm_costs`), `heat` how
much longer a hot device takes; one that is off goes on when it is on again (`fedpeft.simulation.fleet`). `speed` is
fixed for each client, log-normal around its class with σ = 0.15, and each reply varies by another σ = 0.05, both drawn
from the run's seed, so two runs of one seed see the same times.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from fedpeft.config import DeviceTable, RunConfig
from fedpeft.randomness.streams import Stream, derive
from fedpeft.types import ClientId, MessageKind

EVALUATION_STEP = 0.35
"""A forward pass alone costs about this share of a training step."""


@dataclass(frozen=True, slots=True)
class Device:
    """One client's device."""

    table: DeviceTable
    speed: float  # multiplies step_seconds


def assign_devices(config: RunConfig, clients: list[ClientId]) -> Mapping[ClientId, Device]:
    """Deal the device classes to the clients, seeded, so that data and device are independent."""
    classes = [table for table in config.device_classes for _ in range(table.clients)]
    order = Stream(derive(config.run.seed, "devices")).permutation(len(classes))
    return {
        client: Device(classes[int(place)], math.exp(0.15 * _normal(config.run.seed, "speed", client)))
        for client, place in zip(clients, order, strict=True)
    }


def fleet_notes(config: RunConfig) -> list[str]:
    """What `fleet.inequality` makes of the classes, for the plan before a run."""
    if config.fleet.inequality == 1.0:
        return []
    return [
        f"fleet.inequality = {config.fleet.inequality:g}: device class {table.name} takes {table.step_seconds:.3g} s a "
        f"step, {table.up_mbps:.3g} Mbit/s up, {table.down_mbps:.3g} Mbit/s down"
        for table in config.device_classes
    ]


def reply_seconds(
    device: Device,
    kind: MessageKind,
    *,
    bytes_down: int,
    bytes_up: int,
    steps: float,
    seed: int,
    round_number: int,
    client: ClientId,
    slowdown: float = 1.0,
) -> float:
    """Simulated seconds from a message's sending to its reply's arrival.

    Args:
        device: of the client.
        kind: an evaluation's steps are forward passes.
        bytes_down: of the frame.
        bytes_up: of the reply, nominal.
        steps: optimizer steps, or batches to evaluate.
        seed: the run's.
        round_number: varies the draw.
        client: varies the draw.
        slowdown: how many times as long as usual a step takes.
    """
    table = device.table
    work = {"train": 1.0, "evaluate": EVALUATION_STEP, "hello": 0.0}[kind]
    network = bytes_down * 8 / (table.down_mbps * 1e6) + bytes_up * 8 / (table.up_mbps * 1e6)
    if not work:  # a million greetings need no draw
        return network
    jitter = math.exp(0.05 * _normal(seed, "jitter", client, round_number, kind))
    return network + steps * work * table.step_seconds * device.speed * jitter * slowdown


def _normal(seed: int, label: str, *parts: int | str) -> float:
    """One standard normal draw (Box and Muller)."""
    u, v = Stream(derive(seed, label, *parts)).uniform(2)
    return math.sqrt(-2.0 * math.log(1.0 - u)) * math.cos(2.0 * math.pi * v)
