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
from fedpeft.pruning.units import Group, Units
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


def toy_units(layout: Any) -> Units:
    """Four heads, the rows of `wide` six by six, and four channels, the columns of `high` five by five."""
    unit_of = np.full(layout.size, -1, dtype=np.int32)
    tensors = {tensor.name: tensor for tensor in layout.tensors}
    rows, columns = tensors["wide.lora_B.weight"], tensors["high.lora_A.weight"]
    unit_of[rows.offset : rows.offset + rows.size] = np.repeat(np.arange(24) // 6, RANK)
    unit_of[columns.offset : columns.offset + columns.size] = np.tile(4 + np.arange(20) // 5, RANK)
    return Units((Group(0, "heads", 0, 4), Group(0, "channels", 4, 4)), unit_of)


PRUNED = [b"", bytes([0b11001010]), bytes([0b11000110]), bytes([0b10001000]), b""]
"""Masks of five clients: two hold everything, and nobody else holds the last of the heads or of the channels."""


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
        masks: Sequence[bytes] = (),
    ) -> None:
        self.layout = toy_layout()
        self.layers = lora_layers(self.layout, {"wide": 2.0, "high": 0.5})
        self.ranks, self.merged = list(ranks), merged
        self.masks, self.units = list(masks) or [b""] * len(ranks), toy_units(self.layout)
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
        settings = MixingSettings(rule, self.layers, cuts, merged, self.units)
        self.mixing = Mixing(inner or FedAvg(), settings, self.initial, lambda: downlink(self.theta))

    def updates(self, number: int, size: float = 0.1) -> list[Update]:
        """What every client sends: random, zero beyond its rank and its mask, the same for one number."""
        found = []
        for client, rank in enumerate(self.ranks):
            rng = np.random.default_rng([number, client])
            delta = (size * rng.standard_normal(self.layout.size)).astype(np.float32)
            name = ClientId(f"c{client:02d}")
            delta[still_places(self.layout, (), self.merged)] = 0
            held = self.units.held(self.masks[client]) if self.masks[client] else None
            if held is not None:
                delta[np.setdiff1d(np.arange(len(delta)), held.places)] = 0
            found.append(Update(name, number, truncate(delta, self.layout, rank), 10.0 * (client + 1), held=held))
        return found

    def begin(self, number: int) -> None:
        self.mixing.begin(self.theta)
        for client, rank in enumerate(self.ranks):
            name = ClientId(f"c{client:02d}")
            plan = Plan("toy", number, 1, name, 0, 1, 1, 0.1, rank=rank, feedback=3, mask=self.masks[client])
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
        """D of a layer, densely, from what clients were sent now: of each value the mean over those that hold it."""
        sent = self.downlink(self.theta)
        found, total = 0.0, 0.0
        for update in updates:
            client = int(update.client[1:])
            start = truncate(sent, self.layout, self.ranks[client], self.merged)
            moved = self.product(start + update.delta, layer) - self.product(start, layer)
            holds = update.weight * self.holds(client, layer, moved.shape)
            found, total = found + holds * moved, total + holds
        return found / np.maximum(total, 1e-300)

    def holds(self, client: int, layer: Any, shape: tuple[int, int]) -> Any:
        """1 where a client's mask leaves it a value of a layer's product, else 0; shape (m, n)."""
        kept = np.unpackbits(np.frombuffer(self.masks[client] or b"\xff", dtype=np.uint8))
        holds = np.ones(shape)
        if layer.name == "wide":
            holds *= np.repeat(kept[:4], 6)[:, None]
        if layer.name == "high":
            holds *= np.repeat(kept[4:], 5)
        return holds


def tail(matrix: Any, rank: int) -> float:
    """What the best part of a rank leaves of a matrix: Eckart and Young's floor."""
    return float(np.linalg.norm(np.linalg.svd(matrix, compute_uv=False)[rank:]))


def rule_named(name: str, **params: Any) -> Rule:
    return build("rule", name, params)
