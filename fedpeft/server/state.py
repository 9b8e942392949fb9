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
    poll_s: float = 0.5  # between looks at the transport


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
