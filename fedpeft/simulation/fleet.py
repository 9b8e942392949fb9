"""A fleet as time passes: devices that are off for a while, and devices that get hot.

Off    a device is on for `on_s` seconds and off for `off_s`, over and over, from a seeded place in its first cycle.
       What it is asked waits until it is on; what it is at, network and training, stops while it is off, then goes on.
Heat   h lies in [0, 1] and starts at 0. At work it goes to 1, at rest to 0, each with a time constant of its own:

           h ← 1 - (1 - h) exp(-seconds / heat_s) at work,      h ← h exp(-seconds / cool_s) at rest

       and a step takes 1 + (hot_factor - 1) h times as long, h being that of the moment at which it was asked.

Both depend on the time of the run: the seconds of all committed rounds, and of the open one so far, in whole
milliseconds. A device is at work from being asked until its answer is there. Both are read from the journal, by a
resumed run as by one that goes on, so they find the same fleet. Evaluations and greetings take no part in it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from fedpeft.config import DeviceTable
from fedpeft.journal import Event, EventKind
from fedpeft.randomness.streams import Stream, derive
from fedpeft.simulation.devices import Device
from fedpeft.types import ClientId


class Fleet:
    """The devices of a run.

    Args:
        devices: of the clients.
        seed: of the run; places each device in its first cycle.
    """

    def __init__(self, devices: Mapping[ClientId, Device], seed: int) -> None:
        self.devices = devices
        self.seed = seed
        self._began: dict[int, float] = {}  # round -> seconds of the run when it began
        self._asked: dict[int, float] = {}  # round -> the clock at its first question, in this session
        self._time = 0.0  # of the run, at the last commit
        self._heat: dict[ClientId, tuple[float, float]] = {}  # client -> h, and when
        self._busy: list[tuple[ClientId, int, float]] = []  # client, round, seconds: answers since the last commit

    def observe(self, event: Event) -> None:
        """Follow the journal, from its first event on."""
        match event.kind:
            case EventKind.RUN_STARTED | EventKind.ROUND_SHORT:
                self._busy = []
            case EventKind.ACCEPTED if event.client is not None and event.round is not None:
                self._busy.append((event.client, event.round, round(event.payload["seconds"], 3)))
            case EventKind.COMMITTED if event.round is not None:
                for client, number, seconds in self._busy:
                    self._work(client, self._began.get(number, self._time), seconds)
                self._busy = []
                self._time += round(event.payload["seconds"], 3)
                self._began[event.round + 1] = self._time

    def now(self, number: int, clock: float) -> float:
        """Seconds of the run, in round `number`.

        Args:
            number: of the round that a device is asked for.
            clock: seconds on the coordinator's clock.
        """
        since = clock - self._asked.setdefault(number, clock)
        return self._began.get(number, self._time) + round(since, 3)

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
