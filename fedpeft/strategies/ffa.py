"""FFA-LoRA: the A of every LoRA layer stays as it was drawn, B is trained and averaged.

Sun et al. 2024, "Improving LoRA in Privacy-preserving Federated Learning" (arXiv 2403.12313). With A fixed at A_0,

    Σ_k p_k B_k A_0 = (Σ_k p_k B_k) A_0

so the mean of the adapters is the adapter of the mean, which it is not where both factors are trained; and noise added
to B for privacy stays linear in the weights. Every client derives A_0 from the run's seed.

Transmits what FedAvg does, for B only: half the bytes where layers are as wide as they are high.
"""

from __future__ import annotations

from fedpeft.strategies.fedavg import FedAvg


class FFA(FedAvg):
    """FedAvg over B alone. Any other strategy does the same with `adapter.frozen = ["lora_A"]` in the run file."""

    frozen = ("lora_A",)
