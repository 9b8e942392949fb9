"""A federation of quadratics: client k has F_k(w) = ½ Σ_j a_kj (w_j − b_kj)², so everything about it is known.

With unlike curvatures a_k, the fixed point of FedAvg with many local steps is not the optimum of the mean of all F_k.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

D, CLIENTS = 6, 5

_RNG = np.random.default_rng(8)
CURVATURES = _RNG.uniform(0.2, 2.0, (CLIENTS, D)).astype(np.float32)  # a
CENTRES = _RNG.normal(0.0, 3.0, (CLIENTS, D)).astype(np.float32)  # b
OPTIMUM = (CURVATURES * CENTRES).sum(0) / CURVATURES.sum(0)  # of the mean of all F_k


class Point(torch.nn.Module):
    """w, shape (D,), in two tensors: `head` and `tail` are half of it each."""

    def __init__(self) -> None:
        super().__init__()
        self.head = torch.nn.Parameter(torch.zeros(D // 2))
        self.tail = torch.nn.Parameter(torch.zeros(D - D // 2))


def loss(model: torch.nn.Module, batch: Any) -> torch.Tensor:
    """F_k(w) of each example, shape (n,): an example is (a, b)."""
    a, b = batch
    return 0.5 * (a * (torch.cat([model.head, model.tail]) - b) ** 2).sum(-1)


def run_quadratic(
    folder: Path, strategy: Any, *, rounds: int = 30, ask: int = CLIENTS, steps: int = 20, **options: Any
) -> Any:
    """`fedpeft.simulate` on it, with plain SGD of step 0.1; `options` with `__` for the dot."""
    from fedpeft import simulate

    observers, resume = options.pop("observers", ()), options.pop("resume", False)
    own = {key.replace("__", "."): value for key, value in options.items()}
    data = {f"c{k}": [(torch.tensor(CURVATURES[k]), torch.tensor(CENTRES[k]))] for k in range(CLIENTS)}
    return simulate(
        model=Point(),
        peft_config=None,
        clients=data,
        client_test=data,
        loss=loss,
        strategy=strategy,
        name="quadratic",
        rounds=rounds,
        ask=ask,
        observers=observers,
        resume=resume,
        options={
            "run.folder": str(folder),
            "local.steps": steps,
            "local.batch_size": 1,
            "local.learning_rate": 0.1,
            "local.optimizer": "sgd",
            "local.max_grad_norm": 0.0,
            "codec.up": "fp32",
            "codec.down": "fp32",
            "codec.auxiliary": "fp32",
            "engine.trainer": "sequential",
            "evaluation.centralised": False,
            **own,
        },
    )


def committed(folder: Path) -> dict[str, Any]:
    """The arrays of the last commit: `theta`, and those of the strategy."""
    from fedpeft.journal import Journal
    from fedpeft.journal.snapshot import unpack

    with Journal.read(folder / "quadratic") as journal:
        commit = journal.last_commit()
        assert commit is not None
        arrays = unpack(journal.blob(commit.snapshot["adapter"]))[0]
        return arrays | unpack(journal.blob(commit.snapshot["strategy"]))[0]
