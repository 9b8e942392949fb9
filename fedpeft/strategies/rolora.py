"""RoLoRA: B of every LoRA layer is trained in odd rounds, A in even ones, each against the other one as it stands.

Chen et al. 2024, "Robust Federated Finetuning of Foundation Models via Alternating Minimization of LoRA"
(arXiv 2409.02346). In a round that moves one factor only, the mean of the adapters is the adapter of the mean,

    Σ_k p_k B_k A = (Σ_k p_k B_k) A      (odd rounds),        Σ_k p_k B A_k = B (Σ_k p_k A_k)      (even rounds)

as with FFA, whose A never learns anything. B comes first: as it begins at 0, A has no gradient before. What belongs to
no LoRA pair (a classifier, biases) is trained in every round.

Transmits what FedAvg does, for one factor only: half the bytes up where layers are as wide as they are high; down goes
what the last round moved.
"""

from __future__ import annotations

from collections.abc import Sequence

from fedpeft.strategies.fedavg import FedAvg


class RoLoRA(FedAvg):
    """FedAvg over one factor at a time."""

    def frozen_in(self, round_number: int) -> Sequence[str]:
        """See `Strategy.frozen_in`."""
        return ("lora_A",) if round_number % 2 else ("lora_B",)
