"""FedSA-LoRA: the A of every LoRA layer is shared, its B stays on the client, which keeps a model of its own.

Guo et al. 2024, "Selective Aggregation for Low-Rank Adaptation in Federated Learning" (arXiv 2410.01463): A learns what
all data have in common, B what is a client's own. With weights p_k = n_k/n, n the examples of those that replied:

    Ā ← Σ_k p_k A_k,        client k goes on from (Ā, B_k)

The paper also keeps a classifier on the client: `adapter.private = ["classifier"]` beside this strategy.

There is no one model in the end but one for each client. The coordinator has no B and evaluates nothing; clients
evaluate on their own data. B_k is kept under the round that trained it, and the one that counts is that of the last
round which was folded in, so what a client learns in a round that came to nothing is forgotten.

Transmits what FedAvg does, for A only: half the bytes where layers are as wide as they are high. On each client's disk:
B_k, 4 bytes a scalar for each of the last two rounds.
"""

from __future__ import annotations

from fedpeft.strategies.fedavg import FedAvg


class FedSA(FedAvg):
    """FedAvg over A alone. Any other strategy does the same with `adapter.private = ["lora_B"]` in the run file."""

    private = ("lora_B",)
