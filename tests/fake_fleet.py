"""A fleet without models: scripted clients behind a Transport, on a virtual clock. For tests of the coordinator.

>>> fleet = FakeFleet(3)                           # c00, c01, c02 answer after 1 s, honestly
>>> fleet["c01"].seconds = 100                     # a straggler
>>> fleet["c02"].train = lambda frame: b"rubbish"  # a broken one
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from fedpeft.codecs.fp32 import Fp32
from fedpeft.config import RunConfig, parse_config
from fedpeft.journal import EventKind, Journal
from fedpeft.server import Coordinator, Settings
from fedpeft.server.reading import ScalarSettings
from fedpeft.server.scheduling import SchedulingSettings
from fedpeft.simulation.clock import VirtualClock
from fedpeft.simulation.codecs import make_downlink
from fedpeft.strategies import FedAvg, Strategy
from fedpeft.types import (
    ClientId,
    ClientInfo,
    FloatArray,
    Incoming,
    Layout,
    MessageId,
    NodeId,
    Outgoing,
    TensorSpec,
    Traffic,
)
from fedpeft.wire.frame import Frame, FrameKind, FrameLimits, Refusal, decode_frame, encode_frame

SIZE = 64
LIMITS = FrameLimits(max_body_bytes=1_000_000)


def layout(size: int = SIZE) -> Layout:
    return Layout((TensorSpec("w", (size,), 0),), size, "1a" * 32)


def delta_of(node: int, round_number: int, size: int = SIZE) -> FloatArray:
    """What an honest client sends: known, and different for each client and round."""
    return (np.sin(np.arange(size) * (node + 1) + round_number) / 10).astype(np.float32)


def answer(frame: Frame, kind: FrameKind, **fields: Any) -> bytes:
    """A reply to a frame."""
    return encode_frame(Frame(kind, frame.run, frame.round, frame.attempt, frame.client, **fields))


def refuse(frame: Frame, code: str, reason: str) -> bytes:
    return answer(frame, FrameKind.REFUSAL, refusal=Refusal(code, reason))


@dataclass
class FakeClient:
    """One scripted client: change what it says of itself, how long it takes, how it answers."""

    node: int
    size: int = SIZE
    seconds: float | Callable[[Frame], float] = 1.0
    evaluating: float = 0.0  # seconds
    info: dict[str, Any] = field(default_factory=dict)  # overrides of its hello
    train: Callable[[Frame], bytes | Exception] | None = None
    evaluate: Callable[[Frame], bytes | Exception] | None = None
    hello: Callable[[Frame], bytes | Exception] | None = None

    @property
    def name(self) -> ClientId:
        return ClientId(f"c{self.node:02d}")

    def takes(self, frame: Frame) -> float:
        if frame.kind is not FrameKind.TRAIN:
            return self.evaluating if frame.kind is FrameKind.EVALUATE else 0.0
        return self.seconds(frame) if callable(self.seconds) else self.seconds

    def reply(self, frame: Frame) -> bytes | Exception:
        scripted = {FrameKind.TRAIN: self.train, FrameKind.EVALUATE: self.evaluate, FrameKind.HELLO: self.hello}
        act = scripted[frame.kind] or self.honest
        return act(frame)

    def honest(self, frame: Frame) -> bytes:
        if frame.kind is FrameKind.HELLO:
            plain = ClientInfo(
                self.name, NodeId(self.node), 10, codecs=("fp32", "int8"), objectives=("plain",), layout="1a" * 32
            )
            changed = {key: self.info.get(key, getattr(plain, key)) for key in plain.__dataclass_fields__}
            return answer(frame, FrameKind.HELLO_REPLY, info=ClientInfo(**changed))
        if frame.kind is FrameKind.EVALUATE:
            return answer(frame, FrameKind.EVALUATION, weight=4.0, metrics={"accuracy": 0.5, "loss": 1.0})
        body = Fp32().encode(delta_of(self.node, frame.round, self.size))
        return answer(frame, FrameKind.UPDATE, body=body, codec="fp32", weight=10.0, metrics={"loss_last": 0.5})


class FakeFleet:
    """The Transport: node k is client `c%02d` % k. `asked` holds each training frame that was sent, in order."""

    def __init__(self, clients: int, size: int = SIZE) -> None:
        self.clock = VirtualClock()
        self.traffic = Traffic()
        self.size = size
        self.clients = [FakeClient(node, size) for node in range(clients)]
        self.asked: list[Frame] = []
        self.remember = True  # keep `asked`
        self.delivered_twice = False
        self.tells_arrival = True  # as the local grid does; Flower's own do not
        self.strangers: list[Incoming] = []  # delivered once, with the next receive
        self.unsendable: set[ClientId] = set()
        self._out: list[tuple[float, int, MessageId, int, Frame]] = []
        self._count = 0

    def __getitem__(self, name: str) -> FakeClient:
        return next(client for client in self.clients if client.name == name)

    def nodes(self) -> Sequence[NodeId]:
        return [NodeId(client.node) for client in self.clients]

    def send(self, messages: Iterable[Outgoing]) -> list[MessageId | None]:
        ids: list[MessageId | None] = []
        for out in messages:
            frame = decode_frame(out.frame, LIMITS)
            if frame.kind is FrameKind.TRAIN and self.remember:
                self.asked.append(frame)
            if out.client in self.unsendable and frame.kind is FrameKind.TRAIN:
                ids.append(None)
                continue
            self._count += 1
            name = MessageId(f"m{self._count}")
            due = self.clock.now() + self.clients[out.node].takes(frame)
            frame = replace(frame, body=b"")  # a test of memory must not measure this fleet
            heapq.heappush(self._out, (due, self._count, name, out.node, frame))
            ids.append(name)
        return ids

    def receive(self, messages: Collection[MessageId]) -> list[Incoming]:
        wanted, ready, kept = set(messages), [], []
        while self._out and self._out[0][0] <= self.clock.now():
            item = heapq.heappop(self._out)
            (ready if item[2] in wanted else kept).append(item)
        for item in kept:
            heapq.heappush(self._out, item)
        replies = []
        for due, _, name, node, frame in ready:
            reply = self.clients[node].reply(frame)
            one = Incoming(name, None, str(reply)) if isinstance(reply, Exception) else Incoming(name, reply)
            one = replace(one, arrived=due) if self.tells_arrival else one
            replies += [one, one] if self.delivered_twice else [one]
        strangers, self.strangers = self.strangers, []
        return replies + strangers


def fleet_config(clients: int, **options: Any) -> RunConfig:
    """A run file for `clients` clients; `options` with `__` for the dot, or a whole table."""
    tables: dict[str, Any] = {
        "run": {"name": "fake", "rounds": 3, "seed": 1},
        "model": {"source": "none"},
        "round": {"ask": clients, "deadline_s": 10.0},
        "codec": {"up": "fp32", "down": "fp32"},
        "evaluation": {"clients": False},
        "devices": [{"name": "default", "clients": clients}],
    }
    for key, value in options.items():
        section, _, name = key.partition("__")
        if name:
            tables.setdefault(section, {})[name] = value
        else:
            tables[section] = value
    return parse_config(tables, origin="test")


class FakeRun:
    """A coordinator over a fake fleet, with its journal in `folder`."""

    def __init__(
        self,
        fleet: FakeFleet,
        folder: Path,
        strategy: Strategy | None = None,
        scalars: ScalarSettings | None = None,
        scheduling: SchedulingSettings | None = None,
        **options: Any,
    ) -> None:
        self.fleet = fleet
        self.config = fleet_config(len(fleet.clients), **options)
        if (folder / "journal.sqlite").exists():
            self.journal = Journal.open(folder)
        else:
            self.journal = Journal.create(folder, run="fake", config_toml=self.config.to_toml())
        self.initial = np.zeros(fleet.size, dtype=np.float32)
        self.strategy = strategy or FedAvg()
        self.coordinator = Coordinator(
            self.config,
            Settings(
                layout=layout(fleet.size),
                initial=self.initial,
                poll_s=0.25,
                downlink=make_downlink(self.config.codec.down, layout(fleet.size)),
                codecs={table.name: table.codec for table in self.config.devices if table.codec is not None},
                scalars=scalars,
                scheduling=scheduling,
            ),
            fleet,
            fleet.clock,
            self.strategy,
            self.journal,
            lambda theta, last: None,
        )

    def run(self) -> FloatArray:
        return self.coordinator.run()

    def told(self, kind: EventKind, *keys: str) -> list[Any]:
        """The events of a kind, each as (round, client, payload values of `keys`)."""
        return [(e.round, e.client, *(e.payload[key] for key in keys)) for e in self.journal.events(kind)]
