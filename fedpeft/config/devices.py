"""`[[devices]]`, `[fleet]` and `[[faults]]`: whom a simulation imitates, and what goes wrong with them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

from pydantic import Field

from fedpeft.config.table import Positive, Table

FaultKind = Literal["drop", "crash", "corrupt", "nan", "slow"]


class DeviceTable(Table):
    """`[[devices]]`: a class of devices. Times are simulated on a virtual clock; they cost no waiting."""

    name: str
    clients: Positive  # how many clients are of this class
    step_seconds: float = Field(0.5, gt=0)  # one optimizer step of the run's batch size, at the full rank, cool
    up_mbps: float = Field(10.0, gt=0)  # uplink, megabits per second
    down_mbps: float = Field(50.0, gt=0)  # downlink
    memory_mb: Positive = 4096
    on_s: float = Field(3600.0, gt=0)  # seconds on in each cycle of on and off; a device begins anywhere in its cycle
    off_s: float = Field(0.0, ge=0)  # seconds off in each cycle; 0 = never off. What it is at waits and then goes on
    hot_factor: float = Field(1.0, ge=1)  # how many times as long a step takes on a hot device; 1 = it never slows down
    heat_s: float = Field(600.0, gt=0)  # time constant of getting hot at work
    cool_s: float = Field(600.0, gt=0)  # time constant of cooling down at rest
    steps: Positive | None = None  # optimizer steps a round; default: local.steps
    codec: str | None = None  # any codec, of the updates of this class; default: codec.up
    rank: Positive | None = None  # trains the first so many components of each LoRA layer; default: all, adapter.rank
    pruning: float = Field(0.0, ge=0, lt=1)  # share of the heads and channels of each layer that it does without


class FleetTable(Table):
    """`[fleet]`: the classes of devices, taken together."""

    inequality: float = Field(1.0, ge=0, le=10)  # of their speeds and lines: 0 = all alike, 2 = ratios are squared


_UNEQUAL = ("step_seconds", "up_mbps", "down_mbps")


def stretched(devices: Sequence[DeviceTable], inequality: float) -> list[DeviceTable]:
    """The classes with each figure x of a speed or a line as g (x / g)^inequality.

    g is the geometric mean of that figure over all clients, so a fleet made more unequal is as fast as before on that
    average, and each ratio between two classes is what it was to that power.
    """
    if inequality == 1.0:
        return list(devices)
    clients = sum(table.clients for table in devices)
    means = {
        key: math.exp(sum(table.clients * math.log(getattr(table, key)) for table in devices) / clients)
        for key in _UNEQUAL
    }
    return [
        table.model_copy(update={key: mean * (getattr(table, key) / mean) ** inequality for key, mean in means.items()})
        for table in devices
    ]


class FaultTable(Table):
    """`[[faults]]`: a rehearsed failure of one client, for trying out what a run survives."""

    client: str
    rounds: list[Positive]
    kind: FaultKind
    factor: float = Field(10.0, gt=0)  # slow: how many times slower
