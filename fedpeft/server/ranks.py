"""The ranks of clients that give up components: what each is down to, and who gives up some at the end of a round.

    plan    ── the client's rank, and the objective that shrinks its last components
    learn   ── whose did shrink has that many fewer from then on
    state   ── the ranks of those that fell, in the snapshot

Ranks fall as a round ends, never before, so an attempt that came to nothing leaves no trace.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from fedpeft.aggregation.factors import Factors, norm
from fedpeft.aggregation.lora import LoraLayer
from fedpeft.aggregation.rules import RankDecay
from fedpeft.errors import PluginError
from fedpeft.types import ALL_COMPONENTS, ClientId, FloatArray, Plan

Deltas = Sequence[tuple[FloatArray, FloatArray]]
"""What a client changed: of each layer ΔB_k, shape (m, r_k), and ΔA_k, shape (r_k, n)."""


class FallingRanks:
    """See the module.

    Args:
        decay: how far ranks fall at a time.
        layers: of the adapter, at least one.

    Attributes:
        fell: in the last round that was finished, and to which rank.
    """

    def __init__(self, decay: RankDecay, layers: Sequence[LoraLayer]) -> None:
        self.decay, self.layers = decay, layers
        self.fell: dict[ClientId, int] = {}
        self._widest = max(layer.rank for layer in layers)
        self._ranks: dict[ClientId, int] = {}  # of all that ever fell
        self._tails: dict[ClientId, slice] = {}  # of this round: the components that a client may give up

    def of(self, client: ClientId) -> int:
        """The most components that a client may train; `ALL_COMPONENTS` if it gave none up."""
        return self._ranks.get(client, ALL_COMPONENTS)

    def begin(self) -> None:
        """A round begins, or another attempt at one."""
        self.fell, self._tails = {}, {}

    def plan(self, plan: Plan) -> Plan:
        """A client's plan, with its rank and its local objective.

        Raises:
            PluginError: the strategy's plan has an objective already.
        """
        plan = replace(plan, rank=min(plan.rank, self.of(plan.client)))
        rank = min(plan.rank, self._widest)
        kept = self.decay.next_rank(rank)
        if kept == rank:
            return plan
        self._tails[plan.client] = slice(kept, rank)
        if self.decay.regularisation == 0:
            return plan
        if plan.objective != "plain":
            raise PluginError(
                f'the strategy gives client {plan.client} the objective "{plan.objective}", and the rule that lowers '
                f'ranks gives it "{self.decay.objective}"',
                code="plugin.two-objectives",
                allowed="one objective a client",
                remedy="leave the objective of the strategy's plans as it is, or set aggregation.regularisation = 0",
            )
        return replace(plan, objective=self.decay.objective, objective_params=self.decay.objective_params(kept))

    def learn(self, sent: FloatArray, replies: Mapping[ClientId, Deltas]) -> None:
        """A round is over.

        Args:
            sent: what clients started from, shape (d,); each the components of its rank.
            replies: of all clients that count.
        """
        growth = {client: 0.0 for client in sorted(replies) if client in self._tails}
        for index, layer in enumerate(self.layers if growth else ()):
            start = layer.read(sent)
            for client in growth:
                tail = self._tails[client]
                left, right = replies[client][index]
                left, right = left[:, tail], right[tail]
                if not (left.any() or right.any()):
                    continue  # two norms of one matrix may differ in their last bit
                before = Factors(start.left[:, tail], start.right[tail])
                after = Factors(before.left + left, before.right + right)
                growth[client] += layer.scaling**2 * (norm(after) ** 2 - norm(before) ** 2)
        self.fell = {client: self._tails[client].start for client, grown in growth.items() if grown < 0}
        self._ranks |= self.fell

    def state(self) -> npt.NDArray[np.uint8] | None:
        """The ranks of all that fell, JSON by client, in UTF-8; None: nobody did."""
        return np.frombuffer(json.dumps(self._ranks, sort_keys=True).encode(), dtype=np.uint8) if self._ranks else None

    def restore(self, state: npt.NDArray[np.uint8] | None) -> None:
        """Go on from what `state` returned.

        Raises:
            ValueError: it returned nothing like that.
        """
        found = {} if state is None else json.loads(state.tobytes())
        if not isinstance(found, dict) or not all(type(rank) is int and rank >= 1 for rank in found.values()):
            raise ValueError(f"{found} are no ranks by client")
        self._ranks = {ClientId(client): rank for client, rank in found.items()}
