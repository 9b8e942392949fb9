"""The best part of what many clients' LoRA factors add up to, against forming the dense product and its SVD.

One layer of 4,096 × 4,096, 64 clients, rank 64 kept: all of rank 8 (512 components stacked), or of rank 8, 16, 32 and
64 (1,920). CPU seconds, float64, contenders interleaved; the dense SVD is in fp32, as FlexLoRA has it, and is taken
once, for it does not depend on the ranks. `exact-mix` is the whole rule on one layer: differences against what each
client was sent, the basis, the residual. Its error is told as a share of the best possible one (Eckart and Young).
Memory is the most that is allocated beside the clients' factors (tracemalloc).
"""

from __future__ import annotations

import functools
import sys
import time
import tracemalloc
from collections.abc import Callable, Iterator
from typing import Any

from fedpeft.bench import Figure, Goal, interleaved, main, say

KEPT = 64
CLIENTS = 64
MIXES = {"64 × rank 8": (8,), "64 × rank 8 to 64": (8, 16, 32, 64)}
EXACT, RANDOMISED, DENSE, RULE = "exact", "randomised", "dense product, SVD", "exact-mix, the whole rule"
TIMES = {("64 × rank 8", EXACT): 70, ("64 × rank 8 to 64", EXACT): 5, ("64 × rank 8 to 64", RANDOMISED): 50}


def measure(quick: bool, size: int = 4096) -> Iterator[Figure]:
    """Seconds, errors and megabytes."""
    size = min(size, 512) if quick else size
    say("dense product and its SVD")
    dense = dense_seconds(size)
    for label, ranks in MIXES.items():
        say(label)
        stack = clients(size, ranks, CLIENTS)
        work = contenders(size, ranks, stack)
        group = f"best part of {label}"
        yield Figure.of(DENSE, dense, "s", group=group, role="peer", note="fp32, taken once")
        for name, taken in interleaved(work, repeats=2 if quick else 5).items():
            aim = None if quick else TIMES.get((label, name))
            yield Figure.of(name, taken, "s", group=group, goals=[Goal(aim, DENSE)])
        yield _error(label, stack, quick)
        yield from _memory(size, label, stack)
    say("growth")
    yield from _growth(size, 2 if quick else 3)


def clients(size: int, ranks: tuple[int, ...], count: int) -> Any:
    """The stacked factors of so many clients, their weights in them; ranks take turns."""
    import numpy as np

    from fedpeft.aggregation.factors import Factors, stacked

    rng = np.random.default_rng(0)
    dealt = [ranks[client % len(ranks)] for client in range(count)]
    return stacked(
        Factors(rng.standard_normal((size, rank)) / count, rng.standard_normal((rank, size))) for rank in dealt
    )


def dense_seconds(size: int) -> float:
    """CPU seconds to form W of 512 components and to take its SVD, in fp32."""
    import numpy as np

    stack = clients(size, (8,), CLIENTS)
    left, right = stack.left.astype(np.float32), stack.right.astype(np.float32)
    began = time.process_time()
    np.linalg.svd(left @ right, full_matrices=False)
    return time.process_time() - began


def contenders(size: int, ranks: tuple[int, ...], stack: Any) -> dict[str, Callable[[], object]]:
    """What is timed on one mix of ranks."""
    from fedpeft.aggregation.factors import leading
    from fedpeft.aggregation.rules import ExactMix

    rule, sketching = ExactMix(), ExactMix(method="randomised")
    return {
        EXACT: lambda: leading(stack, KEPT),
        RANDOMISED: lambda: leading(stack, KEPT, "randomised"),
        RULE: lambda: rule.mix(layer_round(size, ranks)),
        f"{RULE}, randomised": lambda: sketching.mix(layer_round(size, ranks)),
    }


@functools.lru_cache(maxsize=1)
def _moved(size: int, ranks: tuple[int, ...]) -> Any:
    """A state, and what 64 clients made of it."""
    import numpy as np

    from fedpeft.aggregation.factors import Factors
    from fedpeft.aggregation.rules import Trained

    rng = np.random.default_rng(1)

    def pair(rank: int, scale: float) -> Factors:
        return Factors(scale * rng.standard_normal((size, rank)), scale * rng.standard_normal((rank, size)))

    dealt = [ranks[client % len(ranks)] for client in range(CLIENTS)]
    return pair(KEPT, 1.0), [Trained(1 / CLIENTS, pair(rank, 0.1)) for rank in dealt]


def layer_round(size: int, ranks: tuple[int, ...]) -> Any:
    """One layer of rank 64 that 64 clients moved a little; nothing of it is computed yet."""
    from fedpeft.aggregation.rules import LayerRound

    state, trained = _moved(size, ranks)
    return LayerRound(state, state, state, state.right, trained, cuts=tuple(rank for rank in ranks if rank < KEPT))


def _error(label: str, stack: Any, quick: bool) -> Figure:
    from fedpeft.aggregation.factors import leading, norm, stacked

    def left_over(method: Any) -> float:
        return norm(stacked([stack, leading(stack, KEPT, method).balanced().scaled(-1.0)]))

    share = left_over("randomised") / left_over("exact")
    return Figure.of(RANDOMISED, share, "× the least", group=f"error of {label}", goals=[Goal(None if quick else 1.01)])


def _memory(size: int, label: str, stack: Any) -> Iterator[Figure]:
    import numpy as np

    from fedpeft.aggregation.factors import leading

    whole = 4 * size * size / 1e6
    group = f"memory of {label}"
    yield Figure.of(DENSE, 3 * whole, "MB", group=group, role="peer", note="W, U and V of fp32 alone: a lower bound")
    for method in (EXACT, RANDOMISED):
        np.linalg.norm(stack.left[0])  # what is imported on first use is no memory of a mix
        tracemalloc.start()
        leading(stack, KEPT, method)  # type: ignore[arg-type]
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        yield Figure.of(method, peak / 1e6, "MB", group=group, goals=[Goal(None, DENSE)])


def _growth(size: int, repeats: int) -> Iterator[Figure]:
    from fedpeft.aggregation.factors import leading

    for count in (16, 32, 64, 128):
        stack = clients(size, (8,), count)
        work = {
            EXACT: lambda stack=stack: leading(stack, KEPT),
            RANDOMISED: lambda stack=stack: leading(stack, KEPT, "randomised"),
        }
        for name, taken in interleaved(work, repeats=repeats).items():
            yield Figure.of(f"{name}, {count} clients", taken, "s", group="growth with the sum of ranks, 8 each")


if __name__ == "__main__":
    sys.exit(main(__file__, measure))
