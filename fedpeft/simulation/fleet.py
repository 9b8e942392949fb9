"""A fleet as time passes: devices that are off for a while, and devices that get hot.

Off    a device is on for `on_s` seconds and off for `off_s`, over and over, from a seeded place in its first cycle.
       What it is asked waits until it is on; what it is at, network and training, stops while it is off, then goes on.
Heat   h lies in [0, 1] and starts at 0. At work it goes to 1, at rest to 0, each with a time constant of its own:

           h ← 1 - (1 - h) exp(-seconds / heat_s) at work,      h ← h exp(-seconds / cool_s) at rest

       and a step takes 1 + (hot_factor - 1) h times as long, h being that of the moment at which it was asked.

Both depend on the time of the run: the seconds of all attempts that were committed or came short, and of the open one
so far, in whole milliseconds. A device is at work from being asked until its answer is there. Both are read from the
journal, by a resumed run as by one that goes on, so they find the same fleet. Evaluations and greetings take no part
in it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TypeAlias

from fedpeft.config import DeviceTable
from fedpeft.journal import Event, EventKind
from fedpeft.randomness.streams import Stream, derive
from fedpeft.simulation.devices import Device
from fedpeft.types import ClientId

_Attempt: TypeAlias = tuple[int | None, int | None]
"""A round and its attempt."""


class Fleet:
    """The devices of a run.

    Args:
        devices: of the clients.
        seed: of the run; places each device in its first cycle.
    """

    def __init__(self, devices: Mapping[ClientId, Device], seed: int) -> None:
        self.devices = devices
        self.seed = seed
        self._began: dict[_Attempt, float] = {}  # seconds of the run when it began, of all that ended
        self._asked: float | None = None  # the clock at the open attempt's first question
        self._time = 0.0  # of the run, when the open attempt began
        self._heat: dict[ClientId, tuple[float, float]] = {}  # client -> h, and when
        self._busy: list[tuple[ClientId, _Attempt, float]] = []  # seconds of each answer of the open attempt

    def observe(self, event: Event) -> None:
        """Follow the journal, from its first event on."""
        match event.kind:
            case EventKind.RUN_STARTED:
                self._busy, self._asked = [], None
            case EventKind.ACCEPTED if event.client is not None:
                asked = event.round, event.attempt
                self._busy.append((event.client, asked, round(event.payload["seconds"], 3)))
            case EventKind.ROUND_SHORT:
                self._end(event)
            case EventKind.COMMITTED:
                for client, asked, seconds in self._busy:
                    self._work(client, self._began.get(asked, self._time), seconds)
                self._end(event)

    def now(self, clock: float) -> float:
        """Seconds of the run, as a device is asked in the open attempt.

        Args:
            clock: seconds on the coordinator's clock.
        """
        if self._asked is None:
            self._asked = clock
        return self._time + round(clock - self._asked, 3)

    def slowdown(self, client: ClientId, now: float) -> float:
        """How many times as long as on a cool device a step takes, at `now` seconds of the run."""
        table = self.devices[client].table
        return 1.0 + (table.hot_factor - 1.0) * self._heat_at(client, now)

    def until_done(self, client: ClientId, now: float, seconds: float) -> float:
        """Seconds until something is done that takes a device `seconds` while it is on."""
        table = self.devices[client].table
        if not table.off_s or math.isinf(seconds):
            return seconds
        cycle = table.on_s + table.off_s
        place = float(Stream(derive(self.seed, "awake", client)).uniform(1)[0]) * cycle
        return _through(table, (now + place) % cycle, seconds)

    def _end(self, event: Event) -> None:
        """An attempt is over, by its last event."""
        self._busy, self._asked = [], None
        self._began[event.round, event.attempt] = self._time
        self._time += round(event.payload.get("seconds", 0.0), 3)  # older journals tell none of short attempts

    def _heat_at(self, client: ClientId, now: float) -> float:
        heat, at = self._heat.get(client, (0.0, 0.0))
        return heat * math.exp(-max(0.0, now - at) / self.devices[client].table.cool_s)

    def _work(self, client: ClientId, began: float, seconds: float) -> None:
        table = self.devices[client].table
        if table.hot_factor == 1.0:
            return
        heat = 1.0 - (1.0 - self._heat_at(client, began)) * math.exp(-seconds / table.heat_s)
        self._heat[client] = heat, began + seconds


def _through(table: DeviceTable, place: float, seconds: float) -> float:
    """From `place` in a cycle until `seconds` of being on are over."""
    if place >= table.on_s:
        return table.on_s + table.off_s - place + _through(table, 0.0, seconds)
    left = table.on_s - place
    if seconds <= left:
        return seconds
    whole = math.ceil((seconds - left) / table.on_s)  # times that it is off before it is done
    return seconds + whole * table.off_s
