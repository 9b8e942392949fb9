"""The parts that a coordinator and its rounds work with."""

from __future__ import annotations

from dataclasses import dataclass, field

from fedpeft.aggregation.guard import UpdateGuard
from fedpeft.codecs.broadcast import Int8Downlink
from fedpeft.codecs.downlink import Downlink
from fedpeft.config import RunConfig
from fedpeft.journal import Journal
from fedpeft.server.broadcasts import Broadcasts
from fedpeft.server.catch_up import CheckpointSettings
from fedpeft.server.inflight import InFlight
from fedpeft.server.mixing import Mixing, MixingSettings
from fedpeft.server.post import Post
from fedpeft.server.pruning import Pruning, PruningSettings
from fedpeft.server.reading import Reading, ScalarSettings
from fedpeft.server.roster import Roster
from fedpeft.server.schedules import Schedule
from fedpeft.server.scheduling import Scheduling, SchedulingSettings
from fedpeft.strategies import Strategy
from fedpeft.types import ALL_COMPONENTS, ClientId, ClientInfo, Clock, FloatArray, Layout


@dataclass(frozen=True, slots=True)
class Settings:
    """What the coordinator needs beside the run file."""

    layout: Layout
    initial: FloatArray  # θ_0, shape (d,)
    steps: dict[str, int] = field(default_factory=dict)  # device class -> optimizer steps, where it differs
    ranks: dict[str, int] = field(default_factory=dict)  # device class -> LoRA rank, where it is smaller
    codecs: dict[str, str] = field(default_factory=dict)  # device class -> codec of its updates; "": of the other ones
    poll_s: float = 0.5  # between looks at the transport
    headline: str = ""  # the metric that the task is judged by; "" = accuracy, else its first metric, else the loss
    larger_is_better: bool | None = None  # of that metric; None = known by its name
    downlink: Downlink | None = field(default_factory=Int8Downlink)  # of broadcasts; None: the plain vector
    scheduling: SchedulingSettings | None = None  # where the run file has a scheduler
    pruning: PruningSettings | None = None  # of runs in which clients are pruned
    mixing: MixingSettings | None = None  # how LoRA factors are mixed; None: as the strategy steps
    scalars: ScalarSettings | None = None  # zeroth order: updates are scalars, and the vector counts in whole numbers
    checkpoints: CheckpointSettings | None = None  # zeroth order: how θ_e is sent; None: never


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
    schedule: Schedule
    reading: Reading
    scheduling: Scheduling | None = None  # picks arms; None: everybody gets what the run file says
    pruning: Pruning | None = None  # scores and masks; None: nobody is pruned

    def steps_of(self, device: str) -> int:
        """Local steps of a client of this device class."""
        return self.settings.steps.get(device, self.config.local.steps)

    def rank_of(self, info: ClientInfo) -> int:
        """The LoRA rank of a client: its device class's, or what it is down to."""
        falling = self.strategy.falling if isinstance(self.strategy, Mixing) else None
        own = ALL_COMPONENTS if falling is None else falling.of(info.client)
        return min(own, self.settings.ranks.get(info.device, ALL_COMPONENTS))

    def codec_of(self, device: str) -> str:
        """The codec of the updates of a client of this device class, unless its plan names another."""
        own = self.settings.codecs
        return own.get(device) or own.get("", self.config.codec.up)

    def codecs_of(self, device: str) -> tuple[str, ...]:
        """Every codec of updates that the plan of a client of this device class may name."""
        return (self.codec_of(device),) if self.scheduling is None else self.scheduling.settings.grid.codecs

    def learning_rate(self, number: int) -> float:
        """Of the clients in round `number`."""
        return self.config.local.learning_rate * self.schedule(number, self.config.run.rounds)

    def unreachable(self) -> set[ClientId]:
        """Clients not worth a question beside training.

        In a synchronous run those that are still out: they missed the round's end. In an asynchronous run clients are
        out all the time, and a device answers when it is done; only who has been out beyond the deadline is left alone.
        """
        if self.config.round.mode == "sync":
            return self.inflight.busy()
        return self.inflight.overdue(self.clock.now() - self.config.round.deadline_s)

    def pause(self) -> None:
        """Wait until the next look at the transport. What was recorded until now becomes durable before."""
        self.journal.flush(every_s=FLUSH_S)
        self.clock.sleep(self.settings.poll_s)
