"""A fleet of real agents with a scripted trainer, behind a Transport: for tests of what both sides keep between rounds.

Like `FakeFleet`, it is run by `FakeRun`. What becomes of a client's work in a round is told by `fates`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from fake_fleet import LIMITS, layout

from fedpeft.client import Agent, ClientStore, Home
from fedpeft.evaluation import Evaluation
from fedpeft.randomness.streams import derive_seed
from fedpeft.simulation.clock import VirtualClock
from fedpeft.simulation.codecs import make_downlink
from fedpeft.training import TrainingJob, TrainingResult
from fedpeft.types import ClientId, FloatArray, Incoming, MessageId, NodeId, Outgoing, Traffic
from fedpeft.wire.frame import FrameKind, decode_frame

FATES = ("well", "cut off before training", "cut off after training", "damaged on the way")


class ScriptedTrainer:
    """Δ draws every client half way to a point of its own, with noise of the plan's seed; remembers all it did."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.starts: dict[int, list[FloatArray]] = {}  # version -> what was trained from, in order
        self.deltas: dict[tuple[ClientId, int], FloatArray] = {}  # by client and round

    def run(self, jobs: Sequence[TrainingJob]) -> Iterator[TrainingResult]:
        for job in jobs:
            plan = job.plan
            goal, noise = (
                np.random.default_rng(derive_seed(0, str(seed))).normal(0, 0.1, self.size).astype(np.float32)
                for seed in (plan.client, plan.seed)
            )
            delta = (goal - job.start) / 2 + noise / 4
            self.starts.setdefault(plan.version, []).append(job.start.copy())
            self.deltas[plan.client, plan.round] = delta
            yield TrainingResult(plan, delta, {"loss_last": 0.5})


class AgentFleet:
    """The Transport to agents whose state is in `folder`; a new fleet over the same folder is as after a restart."""

    def __init__(
        self,
        clients: int,
        folder: Path,
        *,
        down: str,
        size: int = 64,
        fates: Mapping[tuple[ClientId, int], str] | None = None,
        trainer: ScriptedTrainer | None = None,
    ) -> None:
        self.clock = VirtualClock()
        self.traffic = Traffic()
        self.size = size
        self.clients = [ClientId(f"c{node:02d}") for node in range(clients)]
        self.fates = fates or {}
        self.trainer = trainer or ScriptedTrainer(size)
        downlink = make_downlink(down, layout(size))
        self.stores = {
            client: ClientStore(folder / client, size, flush=False, downlink=downlink, run="fake")
            for client in self.clients
        }
        homes = {client: Home([0] * 10, [0], store) for client, store in self.stores.items()}
        self.agent = Agent(
            self.trainer,
            lambda theta, data: Evaluation(0.5, 1.0, len(data)),
            np.zeros(size, dtype=np.float32),
            layout(size),
            homes,
            LIMITS,
            downlink,
        )
        self._replies: list[Incoming] = []
        self._count = 0

    def nodes(self) -> Sequence[NodeId]:
        return [NodeId(node) for node in range(len(self.clients))]

    def send(self, messages: Iterable[Outgoing]) -> list[MessageId | None]:
        ids: list[Any] = []
        for out in messages:
            self._count += 1
            ids.append(MessageId(f"m{self._count}"))
            self._replies.append(self._answer(ids[-1], self.clients[out.node], out.frame))
        return ids

    def receive(self, messages: Collection[MessageId]) -> list[Incoming]:
        wanted = [reply for reply in self._replies if reply.message in messages]
        self._replies = [reply for reply in self._replies if reply.message not in messages]
        return wanted

    def _answer(self, name: MessageId, client: ClientId, data: bytes) -> Incoming:
        frame = decode_frame(data, LIMITS)
        fate = self.fates.get((client, frame.round), "well") if frame.kind is FrameKind.TRAIN else "well"
        if fate == "cut off before training":
            return Incoming(name, None, fate)
        reply = self.agent.handle(client, data)
        if fate == "cut off after training":
            return Incoming(name, None, fate)
        return Incoming(name, reply if fate == "well" else reply[:-1] + bytes([reply[-1] ^ 0xFF]))
