"""How noisy zeroth-order steps are, and which rate they bear: LoRA, one of its factors, BitFit, all weights.

The models and data of mezo_lora.toml and, where FEDPEFT_DATA has it, of kseed_banking77.toml, at the untrained model.
All from forward passes along random directions z, with a large batch of 256 examples and small ones of 16:

    E[g²]  the mean of g² over directions, from small batches: what a step sees        g = (L(θ + εz) − L(θ − εz)) / 2ε
    ‖∇L‖²  what is left of it with ever larger batches: (256 · mean of g² of the large batch − 16 E[g²]) / 240, since
           the batch's part of the mean falls with its size
    tr H   the mean of (L(θ + εz) + L(θ − εz) − 2 L(θ)) / ε²

The expected loss after a step of rate lr is L − lr ‖∇L‖² + lr²/2 · E[g²] tr H, so it falls fastest at the rate
‖∇L‖² / (E[g²] tr H), by ‖∇L‖⁴ / (2 E[g²] tr H). That holds where the three are what they are at the start; along both
factors of LoRA at once, tr H grows with them.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from fedpeft.bench import Figure, main, say
from fedpeft.bench.subjects import PLACE, checkout
from fedpeft.errors import ConfigError, DataError

KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    "LoRA, A and B": ("mezo_lora.toml", {"adapter.frozen": []}),
    "LoRA, B alone": ("mezo_lora.toml", {}),
    "BitFit": ("mezo_lora.toml", {"adapter": {"type": "bitfit"}}),
    "all weights": ("mezo_lora.toml", {"adapter": {"type": "full"}}),
    "Banking77, LoRA B": ("kseed_banking77.toml", {"adapter": {"rank": 4, "alpha": 8, "frozen": ["lora_A"]}}),
    "Banking77, BitFit": ("kseed_banking77.toml", {"adapter": {"type": "bitfit"}}),
    "Banking77, all weights": ("kseed_banking77.toml", {}),
}
EPSILON, LARGE, SMALL = 1e-3, 256, 16


def measure(quick: bool) -> Iterator[Figure]:
    """Numbers without a unit: the loss is in nats, directions have entries of ±1."""
    for kind, (file, changes) in KINDS.items():
        say(kind)
        try:
            yield from _of(kind, file, changes, 3 if quick else 32)
        except (ConfigError, DataError) as error:
            if file == "mezo_lora.toml":
                raise
            say(f"left out: {error.message}")


def _of(kind: str, file: str, changes: dict[str, Any], directions: int) -> Iterator[Figure]:
    import torch

    from fedpeft.config import load_run_file
    from fedpeft.simulation.federation import assemble

    torch.set_num_threads(1)
    run_file = (checkout() or Path.cwd()) / PLACE.parent / file
    federation = assemble(load_run_file(run_file, changes))
    with torch.no_grad():
        large, small, curvature = _probes(federation, directions)
    seen, trace = float(np.mean(small**2)), float(np.mean(curvature))
    gradient = (LARGE * float(np.mean(large**2)) - SMALL * seen) / (LARGE - SMALL)
    for what, value in (
        ("‖∇L‖²", gradient),
        (f"E[g²], {SMALL} examples", seen),
        ("tr H", trace),
        ("best rate, × 10⁻⁶", 1e6 * gradient / (seen * trace)),
        ("fall of the loss a step, × 10⁻³", 1e3 * gradient**2 / (2 * seen * trace)),
    ):
        yield Figure.of(what, value, "", group=f"{kind}, {federation.adapter.layout.size:,} weights")


def _probes(federation: Any, directions: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """g of the large batch, g of small ones, and the curvature, each of shape (directions,)."""
    from fedpeft.randomness.directions import packed
    from fedpeft.randomness.streams import derive
    from fedpeft.training.zeroth.walk import walk_of
    from fedpeft.zeroth.direction import Signs

    adapter, task = federation.adapter, federation.task
    data, draw = task.pool(list(federation.train.values())), np.random.default_rng(0)
    prepared, walk, start = task.prepare(adapter.model), walk_of(adapter.theta), adapter.theta.clone()
    every = draw.choice(len(data), LARGE, replace=False)

    def loss(indices: Any) -> float:
        parts = np.array_split(indices, max(1, len(indices) // 64))
        losses = [task.outcomes(adapter.model, task.batch(data, part), prepared).losses.double() for part in parts]
        return float(np.mean([part.mean().item() for part in losses]))

    found, here = [], loss(every)
    for number in range(directions):
        direction = Signs(packed(derive(0, "zeroth-noise", number), 0, adapter.layout.size), adapter.layout.size)
        few = draw.choice(len(data), SMALL, replace=False)
        walk.add(direction, EPSILON)
        up, up_few = loss(every), loss(few)
        walk.add(direction, -2 * EPSILON)
        down, down_few = loss(every), loss(few)
        adapter.theta.copy_(start)
        slopes = (up - down) / (2 * EPSILON), (up_few - down_few) / (2 * EPSILON)
        found.append((*slopes, (up + down - 2 * here) / EPSILON**2))
    large, small, curvature = np.array(found).T
    return large, small, curvature


if __name__ == "__main__":
    sys.exit(main(__file__, measure))
