"""Clients that give up rank: the last components of one whose training lets them shrink are taken from it for good.

Cho et al. 2024, "Heterogeneous LoRA for Federated Fine-tuning of On-Device Foundation Models" (arXiv 2401.06432), rank
self-pruning. A client of rank r_k adds to its loss, of every layer and with γ < 1,

    λ ‖B_k[:, γ r_k:]‖_F ‖A_k[γ r_k:, :]‖_F

and if the product of this tail is shorter after its training than it was before, r_k becomes max(r_min, γ r_k).

The paper leaves open what follows; this is how it is read here. γ r_k is rounded down to whole components, so γ = 0.99
takes one of up to 100 at a time. A client has one rank for all layers: what is compared is the length over all of them,

    √ Σ_layers ‖s B_k[:, γ r_k:] A_k[γ r_k:, :]‖²_F          with s the layer's scaling

A layer of a rank below γ r_k has no tail. Before is what the client was sent in this round; after is what it sent back,
as decoded: the coordinator decides, from what it has anyway. A plan names the objective and brings λ and ⌊γ r_k⌋, some
50 bytes; an update brings nothing more. A tail that nothing moved has not shrunk.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar


@dataclass(frozen=True, slots=True)
class RankDecay:
    """How far a client's rank falls at a time, and what pulls its last components to zero.

    >>> decay = RankDecay(0.75, min_rank=2)
    >>> [decay.next_rank(rank) for rank in (8, 6, 4, 3, 2, 1)]
    [6, 4, 3, 2, 2, 1]

    Args:
        decay: γ in (0, 1]; 1: ranks stay.
        regularisation: λ >= 0; 0: ranks fall where tails shrink by themselves.
        min_rank: r_min >= 1: what no rank falls below.

    Raises:
        ValueError: a parameter out of its range.
    """

    decay: float
    regularisation: float = 0.01
    min_rank: int = 1

    objective: ClassVar[str] = "small-tail"
    """Registered name of the local objective that has the term in λ."""

    def __post_init__(self) -> None:
        if not 0 < self.decay <= 1:
            raise ValueError(f"decay = {self.decay} must be above 0 and at most 1; 1 = ranks stay as they are")
        if not 0 <= self.regularisation < math.inf:
            raise ValueError(f"regularisation = {self.regularisation} must be a finite number, at least 0")
        if isinstance(self.min_rank, bool) or not isinstance(self.min_rank, int) or self.min_rank < 1:
            raise ValueError(f"min_rank = {self.min_rank!r} must be a whole number, at least 1")

    def next_rank(self, rank: int) -> int:
        """What a rank falls to, max(r_min, ⌊γ r⌋); itself where it falls no more."""
        floor = math.floor(round(self.decay * rank, 9))  # 0.29 · 100 is a little less than 29
        return min(rank, max(self.min_rank, floor))

    def objective_params(self, kept: int) -> Mapping[str, float]:
        """Of the local objective of a client that would be left with `kept` components."""
        return {"regularisation": self.regularisation, "kept": kept}
