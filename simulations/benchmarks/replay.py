"""Rebuilding a model from coefficients: a pool of K directions over MiniLM's 22.7 million weights, and over more.

The peer is what FedKSeed does: a pass of `torch.randn` over all weights for each direction, of which 32 are timed and K
reckoned from them. The limit is one copy of the weights. One core, CPU time, contenders interleaved. Also that the cost
does not grow with K (`hadamard`), and that it grows with the weights alone, up to 10^9 of them in pieces from a file.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np

from fedpeft.bench import Figure, Goal, interleaved, main, say
from fedpeft.bench.timing import Taken
from fedpeft.types import FloatArray
from fedpeft.zeroth.pools import Pool

WEIGHTS = 22_713_216  # of MiniLM-L6
K = 4096
TIMED = 32  # directions of the peer that are timed, and of the independent pool
UNIT = 1e-7
HADAMARD, INDEPENDENT = "hadamard pool", "independent pool"
FRESH, NEAR = "fresh pool", "near-gaussian pool"
RANDN, COPY = "torch.randn for each direction", "limit: copy of the weights"
ONE = "one direction, made and added"
ONE_RANDN = "one torch.randn, made and added"
WHY_WORDS = "a pool word holds sixteen directions: for one, fifteen are made and thrown away"
PIECE = 1 << 24  # weights of a file that are in memory at a time


def measure(quick: bool) -> Iterator[Figure]:
    """Seconds a rebuild, and ms a direction."""
    import torch

    torch.set_num_threads(1)
    weights = WEIGHTS // (8 if quick else 1)
    say(f"{K} directions over {weights:,} weights")
    yield from _rebuild(weights, 2 if quick else 5)
    say("one direction")
    yield from _one(weights, 3 if quick else 9)
    say("any K")
    yield from _any_size(weights, 2 if quick else 5)
    say("weights from a file")
    yield from _streamed((1e7, 3e7) if quick else (1e7, 1e8, 1e9))


def coefficients(size: int) -> np.ndarray:
    """A pool that every direction has been moved along."""
    return np.random.default_rng(0).integers(-1000, 1000, size)


def _rebuild(weights: int, repeats: int) -> list[Figure]:
    import torch

    from fedpeft.zeroth.hadamard import HadamardPool
    from fedpeft.zeroth.independent import IndependentPool

    theta, other = np.zeros(weights, dtype=np.float32), np.zeros(weights, dtype=np.float32)
    room, generator, tensor = torch.empty(weights), torch.Generator(), torch.from_numpy(theta)
    some = np.zeros(K, dtype=np.int64)
    some[:TIMED] = coefficients(TIMED)
    hadamard, independent = HadamardPool(K, 1), IndependentPool(K, 1)

    def by_randn() -> Taken:
        began = time.process_time()
        for seed in range(TIMED):
            generator.manual_seed(seed)
            tensor.add_(room.normal_(generator=generator), alpha=1e-7)
        return Taken((time.process_time() - began) * K / TIMED)

    def by_words() -> Taken:
        began = time.process_time()
        independent.combine(0, some, theta, UNIT)
        return Taken((time.process_time() - began) * K / TIMED)

    all_of = coefficients(K)
    samples = interleaved(
        {
            COPY: lambda: np.copyto(other, theta),
            HADAMARD: lambda: hadamard.combine(0, all_of, theta, UNIT),
            INDEPENDENT: by_words,
            RANDN: by_randn,
        },
        repeats=repeats,
    )
    group = f"rebuilding {weights:,} weights from {K} coefficients"
    return [
        Figure.of(COPY, samples[COPY], "s", group=group, role="limit"),
        Figure.of(HADAMARD, samples[HADAMARD], "s", group=group, goals=[Goal(1 / 8, COPY), Goal(5000, RANDN)]),
        Figure.of(
            INDEPENDENT,
            samples[INDEPENDENT],
            "s",
            group=group,
            goals=[Goal(30, RANDN)],
            note=f"{TIMED} directions timed",
        ),
        Figure.of(RANDN, samples[RANDN], "s", group=group, role="peer", note=f"{TIMED} directions timed"),
    ]


def _one(weights: int, repeats: int) -> list[Figure]:
    import torch

    from fedpeft.zeroth.fresh import FreshPool
    from fedpeft.zeroth.hadamard import HadamardPool
    from fedpeft.zeroth.independent import IndependentPool
    from fedpeft.zeroth.near_gaussian import NearGaussianPool

    theta = np.zeros(weights, dtype=np.float32)
    room, generator, tensor = torch.empty(weights), torch.Generator(), torch.from_numpy(theta)

    def by_randn() -> None:
        generator.manual_seed(1)
        tensor.add_(room.normal_(generator=generator), alpha=1e-7)

    contenders: dict[str, Callable[[], object]] = {ONE_RANDN: by_randn}
    pools: dict[str, Pool] = {
        HADAMARD: HadamardPool(K, 1),
        INDEPENDENT: IndependentPool(K, 1),
        FRESH: FreshPool(K, 1),
        NEAR: NearGaussianPool(K, 1),
    }
    for name, pool in pools.items():
        contenders[f"{ONE}: {name}"] = partial(_move, theta, pool)
    samples = interleaved(contenders, repeats=repeats)
    return [
        Figure.of(
            name,
            [1e3 * seconds for seconds in taken],
            "ms",
            group=f"one direction over {weights:,} weights",
            role="peer" if name == ONE_RANDN else "own",
            goals=[] if name == ONE_RANDN else [Goal(None if NEAR in name else 3, ONE_RANDN, why=WHY_WORDS)],
        )
        for name, taken in samples.items()
    ]


def _move(theta: FloatArray, pool: Pool) -> None:
    pool.direction(0, 77, 0, len(theta)).add_to(theta, 1e-7)


def _any_size(weights: int, repeats: int) -> list[Figure]:
    from fedpeft.zeroth.hadamard import HadamardPool

    theta = np.zeros(weights, dtype=np.float32)
    contenders: dict[str, Callable[[], object]] = {}
    for size in (256, 4096, 65536):
        pool, own = HadamardPool(size, 1), coefficients(size) // 100
        contenders[f"K = {size:,}"] = partial(pool.combine, 0, own, theta, UNIT)
    samples = interleaved(contenders, repeats=repeats)
    smallest = next(iter(samples))
    return [
        Figure.of(
            name,
            taken,
            "s",
            group=f"hadamard pool, {weights:,} weights, any K",
            goals=[] if name == smallest else [Goal(0.75, smallest)],
        )
        for name, taken in samples.items()
    ]


def _streamed(sizes: tuple[float, ...]) -> list[Figure]:
    from fedpeft.zeroth.hadamard import HadamardPool

    pool, own = HadamardPool(K, 1), coefficients(K)
    figures, group, first = [], "hadamard pool, weights in a file, in pieces of 64 MB", ""
    with tempfile.TemporaryDirectory() as folder:
        for size in map(int, sizes):
            path = Path(folder) / "weights"
            path.unlink(missing_ok=True)
            weights = np.memmap(path, dtype=np.float32, mode="w+", shape=(size,))
            began, inside = time.process_time(), 0.0
            for place in range(0, size, PIECE):
                piece = np.array(weights[place : place + PIECE])
                entered = time.process_time()
                pool.combine(0, own, piece, UNIT, begin=place)
                inside += time.process_time() - entered
                weights[place : place + PIECE] = piece
            outside = time.process_time() - began - inside
            del weights
            name = f"{size:,} weights, rebuilt"
            goals = [Goal(0.5, first)] if first else []
            figures.append(Figure.of(name, 1e9 * inside / size, "ns a weight", group=group, goals=goals))
            figures.append(
                Figure.of(
                    f"{size:,} weights, read and written",
                    1e9 * outside / size,
                    "ns a weight",
                    group=group,
                    role="peer",
                    note="the system's part: what the disk and its cache do with a file of this size",
                )
            )
            first = first or name
    return figures


if __name__ == "__main__":
    sys.exit(main(__file__, measure))
