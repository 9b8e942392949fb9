"""A rule of mixing around the run's strategy: LoRA factors of clients of differing ranks become one pair a layer.

    plan    ── the strategy's, and the rank of each client is noted (where the rule lowers ranks: see `server.ranks`)
    accept ──> the strategy (what it cannot take is refused)                kept: ΔB_k, ΔA_k of the client's rank
    finish ──> the strategy's step along the plain mean ──> the rule, layer by layer ──> θ, residual, what was lost

The strategy still chooses cohorts and local objectives, and all tensors that belong to no LoRA pair are what its step
makes of them. Replies are kept until the end of the round, 4 bytes for each value of theirs, and mixed in client order,
so the order of arrival changes nothing. Clients refer to the decoded broadcast, not to θ: differences are taken from
that. A pruned client's reply counts for the rows and columns of the product that its mask leaves it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from fedpeft.aggregation.factors import Factors, factors_of, norm, stacked
from fedpeft.aggregation.lora import LoraLayer
from fedpeft.aggregation.rules import Flags, LayerRound, Rule, Trained
from fedpeft.errors import PluginError
from fedpeft.pruning.mask import unpack
from fedpeft.pruning.units import Units
from fedpeft.server.around import Around
from fedpeft.server.ranks import FallingRanks
from fedpeft.strategies import Strategy
from fedpeft.strategies.base import State
from fedpeft.types import ClientId, ClientInfo, FloatArray, Plan, Update

_LEFT, _RIGHT, _RANKS = "mixing.left.", "mixing.right.", "mixing.ranks"


@dataclass(frozen=True, slots=True)
class MixingSettings:
    """What the coordinator knows of a run with a rule."""

    rule: Rule
    layers: tuple[LoraLayer, ...]
    cuts: tuple[int, ...] = ()  # ranks of device classes
    merged: int = 0  # components of each layer that nobody trains
    units: Units | None = None  # heads and channels, where clients may be pruned


@dataclass(frozen=True, slots=True)
class Losses:
    """What mixing a round cost, as shares of ‖D‖_F, the length of what clients changed in the product; all layers."""

    mix_distance: float  # from the new state to the old one plus D
    mix_carried: float  # of the product, into the next round
    mix_discarded: float  # of the product, for good: in neither the new state nor what is carried


@dataclass(frozen=True, slots=True)
class _Reply:
    """What is kept of a reply."""

    weight: float
    mask: bytes  # of its plan; empty: it holds everything
    deltas: tuple[tuple[FloatArray, FloatArray], ...]  # of each layer ΔB_k, shape (m, r_k), and ΔA_k, shape (r_k, n)


class Mixing(Around):
    """The run's strategy, with its LoRA factors mixed by a rule.

    Args:
        inner: the run's.
        settings: rule and layers.
        initial: θ_0, shape (d,): A of what a product does not need.
        sent: what clients start from as a round begins, shape (d,).

    Attributes:
        losses: of the last round that was finished; None where nobody moved a layer.
        falling: the clients' ranks, where the rule lowers them; else None.
    """

    def __init__(
        self, inner: Strategy, settings: MixingSettings, initial: FloatArray, sent: Callable[[], FloatArray]
    ) -> None:
        super().__init__(inner)
        self.asynchronous = False
        self.rule, self.layers, self.cuts = settings.rule, settings.layers, settings.cuts
        self.merged, self.units = settings.merged, settings.units
        self.initial = initial
        self.losses: Losses | None = None
        decay = self.rule.rank_decay
        self.falling = None if decay is None else FallingRanks(decay, self.layers)
        if decay is not None and decay.regularisation > 0:
            self.objective = decay.objective  # what clients are met with; its parameters are in their plans
        self._sent = sent
        self._theta: FloatArray | None = None
        self._ranks: dict[ClientId, int] = {}
        self._masks: dict[ClientId, bytes] = {}
        self._replies: dict[ClientId, _Reply] = {}
        self._residuals: dict[int, Factors] = {}  # by layer

    def plan(self, plan: Plan, client: ClientInfo) -> Plan:
        """See `Strategy.plan`. Where the basis turns, a residual of an older one is not to be added."""
        plan = self.inner.plan(plan, client)
        if self.falling is not None:
            plan = self.falling.plan(plan)
        self._ranks[client.client], self._masks[client.client] = plan.rank, plan.mask
        return replace(plan, feedback=-1) if self.rule.turns_basis else plan

    def begin(self, theta: FloatArray) -> None:
        """See `Strategy.begin`."""
        self._theta, self._ranks, self._masks, self._replies = theta, {}, {}, {}
        if self.falling is not None:
            self.falling.begin()
        self.inner.begin(theta)

    def accept(self, update: Update, weight: float) -> None:
        """See `Strategy.accept`."""
        self.inner.accept(update, weight)
        rank = self._ranks[update.client]
        deltas = tuple(layer.copy(update.delta, min(rank, layer.rank - self.merged)) for layer in self.layers)
        self._replies[update.client] = _Reply(weight, self._masks[update.client], deltas)

    def finish(self) -> FloatArray:
        """See `Strategy.finish`."""
        after, theta = self.inner.finish(), self._theta
        clients = sorted(self._replies)
        replies = [self._replies[client] for client in clients]
        self._theta, self._replies, self.losses = None, {}, None
        if theta is None or not replies or getattr(after, "shape", None) != theta.shape:
            return after  # one that is no adapter is for the coordinator to refuse
        sent, total = self._sent(), math.fsum(reply.weight for reply in replies)
        cuts = sorted({*self.cuts, *self._ranks.values()})  # a strategy's plans may have ranks of their own
        kept = {mask: unpack(mask, self.units.sizes) for mask in {one.mask for one in replies} if mask and self.units}
        squares = np.zeros(4)
        for index, layer in enumerate(self.layers):
            trained = [
                Trained(
                    reply.weight / total, factors_of(*reply.deltas[index]), *self._held(layer, kept.get(reply.mask))
                )
                for reply in replies
            ]
            if not any(client.delta.left.any() or client.delta.right.any() for client in trained):
                continue  # nobody moved it: not one bit of it changes
            seeded = layer.read(self.initial).right
            state, start, stepped = (layer.read(vector) for vector in (theta, sent, after))
            about = LayerRound(state, start, stepped, seeded, trained, cuts, self.merged)
            before = self._residuals.pop(index, None)
            mixed = self.rule.mix(about, before)
            layer.write(after, mixed.factors)
            if mixed.residual is not None:
                self._residuals[index] = _as_kept(mixed.residual)
            squares += _squares(about, before, layer.read(after), self._residuals.get(index)) * layer.scaling**2
        if squares[0] > 0:
            self.losses = Losses(*(float(share) for share in np.sqrt(squares[1:] / squares[0])))
        if self.falling is not None:
            self.falling.learn(sent, {client: reply.deltas for client, reply in zip(clients, replies, strict=True)})
        return after

    def _held(self, layer: LoraLayer, kept: Flags | None) -> tuple[Flags | None, Flags | None]:
        """Which rows and which columns of a layer's product a mask leaves, by the units that it keeps; None: all."""
        if kept is None or self.units is None:
            return None, None
        rows, columns = (None if (side < 0).all() else kept[side] for side in layer.sides(self.units.unit_of))
        return rows, columns

    def state(self) -> State:
        """The strategy's, and the residual of each layer i that has one, fp32: `mixing.left.i`, shape (m, e), and
        `mixing.right.i`, shape (e, n); the ranks of clients that fell, `mixing.ranks`."""
        own: State = {}
        ranks = None if self.falling is None else self.falling.state()
        if ranks is not None:
            own[_RANKS] = ranks
        for index, residual in self._residuals.items():
            own[f"{_LEFT}{index}"] = residual.left.astype(np.float32)
            own[f"{_RIGHT}{index}"] = residual.right.astype(np.float32)
        return self.inner.state() | own

    def restore(self, state: Mapping[str, npt.NDArray[Any]]) -> None:
        """See `Strategy.restore`."""
        own = {name: array for name, array in state.items() if name.startswith((_LEFT, _RIGHT)) or name == _RANKS}
        self.inner.restore({name: array for name, array in state.items() if name not in own})
        if self.falling is not None:
            try:
                self.falling.restore(own.pop(_RANKS, None))
            except ValueError:
                raise self._strange([_RANKS]) from None
        self._residuals = {}
        for index, layer in enumerate(self.layers):
            left, right = own.pop(f"{_LEFT}{index}", None), own.pop(f"{_RIGHT}{index}", None)
            if left is None and right is None:
                continue
            if left is None or right is None or not _fits(layer, left, right):
                raise self._strange([f"{_LEFT}{index}", f"{_RIGHT}{index}"])
            self._residuals[index] = factors_of(left, right)
        if own:
            raise self._strange(sorted(own))

    def _strange(self, names: list[str]) -> PluginError:
        return PluginError(
            f"the rule {type(self.rule).__name__} cannot go on from the saved arrays {', '.join(names)}",
            code="strategy.state",
            allowed=f"two factors for each of {len(self.layers)} LoRA layers, float32"
            + (", and ranks by client" if self.falling is not None else ""),
            remedy="resume with the adapter and rule that the run was started with, or start a fresh run",
        )


def with_rule(
    strategy: Strategy, settings: MixingSettings | None, initial: FloatArray, sent: Callable[[], FloatArray]
) -> Strategy:
    """The run's strategy, with a rule of mixing where there is one."""
    return strategy if settings is None else Mixing(strategy, settings, initial, sent)


def _as_kept(residual: Factors) -> Factors:
    """As the snapshot gives it back: a run that was killed goes on with the same numbers."""
    return factors_of(*(part.astype(np.float32) for part in residual))


def _squares(layer: LayerRound, before: Factors | None, new: Factors, after: Factors | None) -> npt.NDArray[np.float64]:
    """Squared lengths of D, of the new state's distance from B A + D, of the residual after, and of what is in neither
    the new state nor that residual; unscaled."""
    apart = stacked([layer.exact, new.scaled(-1.0)])
    lost = [apart] + ([before] if before is not None else []) + ([after.scaled(-1.0)] if after is not None else [])
    distance = norm(apart)
    discarded = distance if len(lost) == 1 else norm(stacked(lost))
    return np.array([norm(layer.step), distance, 0.0 if after is None else norm(after), discarded]) ** 2


def _fits(layer: LoraLayer, left: npt.NDArray[Any], right: npt.NDArray[Any]) -> bool:
    m, n = layer.b.shape[0], layer.a.size // layer.rank
    return (
        left.dtype == right.dtype == np.float32
        and left.ndim == right.ndim == 2
        and (left.shape[0], right.shape[1]) == (m, n)
        and left.shape[1] == right.shape[0]
    )
