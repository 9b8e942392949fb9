"""A federation of LoRA factors without models: layers of many shapes, clients of many ranks, differences that are
known.

`Toy(rule)` holds a strategy with the rule around it; `round(...)` sends every client its truncated start, takes what it
changed, and ends the round.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from fedpeft.adapters.ranks import truncate
from fedpeft.aggregation.factors import Factors
from fedpeft.aggregation.lora import lora_layers
from fedpeft.aggregation.rules import Rule
from fedpeft.layouts import make_layout
from fedpeft.pruning.sent import still_places
from fedpeft.registry import build
from fedpeft.server.mixing import Mixing, MixingSettings
from fedpeft.strategies import FedAvg, Strategy
from fedpeft.types import ClientId, ClientInfo, FloatArray, NodeId, Plan, Update

RANK = 8
SHAPES = {"wide": (24, 60), "high": (50, 20), "square": (30, 30), "narrow": (40, 3), "tiny": (6, 7)}
"""Layers, m × n; of the last two the rank is above, or the sum of ranks is, what they can hold."""

Delta = Callable[[int, FloatArray], FloatArray]


def toy_layout(rank: int = RANK, shapes: dict[str, tuple[int, int]] = SHAPES) -> Any:
    tensors: dict[str, tuple[int, ...]] = {"classifier.bias": (5,)}
    for name, (m, n) in shapes.items():
        own = rank // 2 if name == "square" else rank  # as a rank_pattern gives it
        tensors |= {f"{name}.lora_A.weight": (own, n), f"{name}.lora_B.weight": (m, own)}
    return make_layout(tensors)


class Toy:
    """A coordinator's strategy, and clients that are a function of what they are sent."""

    def __init__(
        self,
        rule: Rule,
        ranks: Sequence[int],
        *,
        trained: bool = True,
        inner: Strategy | None = None,
        downlink: Callable[[FloatArray], FloatArray] = lambda theta: theta,
        merged: int = 0,
    ) -> None:
        self.layout = toy_layout()
        self.layers = lora_layers(self.layout, {"wide": 2.0, "high": 0.5})
        self.ranks, self.merged = list(ranks), merged
        rng = np.random.default_rng(7)
        self.initial = np.zeros(self.layout.size, dtype=np.float32)
        for layer in self.layers:
            pair = layer.read(self.initial)
            layer.write(self.initial, Factors(pair.left, rng.uniform(-0.5, 0.5, pair.right.shape)))
        self.theta = self.initial
        if trained:
            self.theta = (self.initial + 0.3 * rng.standard_normal(self.layout.size)).astype(np.float32)
        self.downlink = downlink
        cuts = tuple(sorted({rank for rank in ranks if rank < RANK}))
        settings = MixingSettings(rule, self.layers, cuts, merged)
        self.mixing = Mixing(inner or FedAvg(), settings, self.initial, lambda: downlink(self.theta))

    def updates(self, number: int, size: float = 0.1) -> list[Update]:
        """What every client sends: random, zero beyond its rank, the same for one number."""
        found = []
        for client, rank in enumerate(self.ranks):
            rng = np.random.default_rng([number, client])
            delta = (size * rng.standard_normal(self.layout.size)).astype(np.float32)
            name = ClientId(f"c{client:02d}")
            delta[still_places(self.layout, (), self.merged)] = 0
            found.append(Update(name, number, truncate(delta, self.layout, rank), 10.0 * (client + 1)))
        return found

    def begin(self, number: int) -> None:
        self.mixing.begin(self.theta)
        for client, rank in enumerate(self.ranks):
            name = ClientId(f"c{client:02d}")
            plan = Plan("toy", number, 1, name, 0, 1, 1, 0.1, rank=rank, feedback=3)
            self.mixing.plan(plan, ClientInfo(name, NodeId(client), 100))

    def round(self, number: int, updates: Sequence[Update]) -> FloatArray:
        self.begin(number)
        for update in updates:
            self.mixing.accept(update, update.weight)
        self.theta = self.mixing.finish()
        return self.theta

    def product(self, theta: FloatArray, layer: Any, rank: int | None = None) -> Any:
        return layer.read(theta, rank).dense()

    def step(self, updates: Sequence[Update], layer: Any) -> Any:
        """D of a layer, densely, from what clients were sent now."""
        sent = self.downlink(self.theta)
        total = sum(update.weight for update in updates)
        found = 0.0
        for update in updates:
            start = truncate(sent, self.layout, self.ranks[int(update.client[1:])], self.merged)
            moved = self.product(start + update.delta, layer) - self.product(start, layer)
            found = found + update.weight / total * moved
        return found


def tail(matrix: Any, rank: int) -> float:
    """What the best part of a rank leaves of a matrix: Eckart and Young's floor."""
    return float(np.linalg.norm(np.linalg.svd(matrix, compute_uv=False)[rank:]))


def rule_named(name: str, **params: Any) -> Rule:
    return build("rule", name, params)
