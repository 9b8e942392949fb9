"""The parts that a coordinator and its rounds work with."""

from __future__ import annotations

from dataclasses import dataclass, field

from fedpeft.aggregation.guard import UpdateGuard
from fedpeft.config import RunConfig
from fedpeft.journal import Journal
from fedpeft.server.broadcasts import Broadcasts
from fedpeft.server.inflight import InFlight
from fedpeft.server.post import Post
from fedpeft.server.roster import Roster
from fedpeft.strategies import Strategy
from fedpeft.types import Clock, FloatArray, Layout


@dataclass(frozen=True, slots=True)
class Settings:
    """What the coordinator needs beside the run file."""

    layout: Layout
    initial: FloatArray  # θ_0, shape (d,)
    steps: dict[str, int] = field(default_factory=dict)  # device class -> optimizer steps, where it differs
    ranks: dict[str, int] = field(default_factory=dict)  # device class -> LoRA rank, where it is smaller
    poll_s: float = 0.5  # between looks at the transport


FLUSH_S = 0.1
"""Real seconds between flushes of the journal while replies come in: on a virtual clock, polls follow one another at
once, and a flush each would cost more than the round."""


@dataclass(frozen=True, slots=True)
class State:
    """Everything a round touches."""

    config: RunConfig
    settings: Settings
    clock: Clock
    strategy: Strategy
    journal: Journal
    post: Post
    guard: UpdateGuard
    broadcasts: Broadcasts
    roster: Roster
    inflight: InFlight

    def pause(self) -> None:
        """Wait until the next look at the transport. What was recorded until now becomes durable before."""
        self.journal.flush(every_s=FLUSH_S)
        self.clock.sleep(self.settings.poll_s)
