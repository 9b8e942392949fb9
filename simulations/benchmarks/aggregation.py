"""The weighted mean of 1,000 updates, against reading them once and against Flower's aggregator.

Updates of 1.2 MB and 8 MB (fp32 deltas of 300k and 2M values) stream through one accumulator, one at a time, from more
buffers than any cache holds. CPU milliseconds an update on one core, contenders interleaved: `fold` is the mean alone,
`guard + fold` all that the coordinator does between a body and the mean (for int8 its checks of the body too). Beside
them, on the same fp32 bytes: one read by the fastest reader there is (torch's sum), NumPy's sum, a copy, an fp32 axpy
(torch's `add_` with a weight: the bound of a mean that depends on the order of arrival), and Flower 1.41's
`aggregate_arrayrecords` on records of 74 tensors that are all in memory already. Memory is the most that the whole
stream allocates beside the updates themselves (tracemalloc).
"""

from __future__ import annotations

import sys
import tracemalloc
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from fedpeft.bench import Figure, Goal, interleaved, main, say

UPDATES = 1000
SIZES = {"1.2 MB": 300_000, "8 MB": 2_000_000}
POOL_BYTES = 400_000_000  # of distinct fp32 updates, used in turn
TENSORS = 74  # LoRA on query and value of a model of 18 layers and more

READ, COPY, FLOWER = "limit: read", "limit: copy", "Flower aggregate_arrayrecords"


WHY = "sums are exact integers, equal in any order: 8 bytes a value go through the cache twice, not 4"


def measure(quick: bool, updates: int = UPDATES) -> list[Figure]:
    """Milliseconds an update, and megabytes."""
    import torch

    torch.set_num_threads(1)
    figures = []
    for label, size in SIZES.items():
        say(f"updates of {label}")
        stream = Stream(size, min(updates, 60) if quick else updates, POOL_BYTES // 4 if quick else POOL_BYTES)
        figures += _times(stream, label, repeats=3 if quick else 7)
        figures += _memory(stream, label)
    return figures


@dataclass(frozen=True, slots=True)
class Contender:
    """Work on so many updates of a stream."""

    work: Callable[[], object]
    updates: int
    role: Any = "own"
    goals: tuple[Goal, ...] = ()
    note: str = ""


class Stream:
    """Updates of one size that come one after the other.

    Args:
        size: elements d of a delta.
        updates: how many of them come.
        pool_bytes: of distinct deltas.
    """

    def __init__(self, size: int, updates: int, pool_bytes: int) -> None:
        import numpy as np

        from fedpeft.codecs.int8 import Int8

        rng = np.random.default_rng(0)
        self.size, self.updates = size, updates
        self.codec = Int8()
        scale = np.float32(1e-3)  # of LoRA deltas
        count = min(updates, max(2, pool_bytes // (4 * size)))
        self.deltas = [rng.standard_normal(size, dtype=np.float32) * scale for _ in range(count)]
        self.bodies = [self.codec.encode(delta) for delta in self.deltas]
        self.weights = rng.integers(1, 100, updates).tolist()

    def turns(self, pool: list[Any], updates: int) -> Iterator[tuple[Any, int]]:
        """(item, weight) of the first so many updates."""
        return ((pool[i % len(pool)], self.weights[i]) for i in range(updates))


def contenders(stream: Stream) -> dict[str, Contender]:
    """All that is timed on one stream."""
    import numpy as np
    import torch

    from fedpeft.aggregation.portable import Portable

    every, few = stream.updates, max(1, stream.updates // 10)
    tensors = [torch.from_numpy(delta) for delta in stream.deltas]
    target = np.empty_like(stream.deltas[0])
    total = torch.zeros(stream.size)

    def each(act: Callable[[Any, int], object], pool: list[Any]) -> Callable[[], None]:
        def work() -> None:
            for item, weight in stream.turns(pool, every):
                act(item, weight)

        return work

    found = {
        READ: Contender(each(lambda x, w: x.sum(), tensors), every, "limit"),
        COPY: Contender(each(lambda x, w: np.copyto(target, x), stream.deltas), every, "limit"),
        "limit: NumPy's sum": Contender(each(lambda x, w: x.sum(), stream.deltas), every, "limit"),
        "limit: fp32 axpy": Contender(each(lambda x, w: total.add_(x, alpha=w), tensors), every, "limit"),
        FLOWER: _flower(stream),
    }
    for passes, updates in ((_numba(), every), (Portable(), few)):
        if passes is None:
            continue
        shown = (Goal(None, READ), Goal(None, FLOWER))
        # NumPy's passes are what there is without the extra: shown beside, not held to the targets.
        times = 25.0 if stream.size == SIZES["1.2 MB"] else None
        aims = (Goal(0.7, READ, why=WHY), Goal(times, FLOWER)) if passes.name == "numba" else shown
        for codec in ("fp32", "int8"):
            found[f"{codec} fold, {passes.name}"] = Contender(
                _fold(stream, passes, codec, updates), updates, goals=aims
            )
            found[f"{codec} guard + fold, {passes.name}"] = Contender(
                _guard_and_fold(stream, passes, codec, updates), updates, goals=shown
            )
    return found


def _numba() -> Any:
    try:
        from fedpeft.aggregation.compiled import Compiled
    except ImportError:
        return None
    return Compiled()


def _fold(stream: Stream, passes: Any, codec: str, updates: int) -> Callable[[], object]:
    from fedpeft.aggregation import WeightedMean

    pool: list[Any] = stream.deltas
    if codec == "int8":
        pool = [stream.codec.view(body, stream.size) for body in stream.bodies]

    def work() -> object:
        mean = WeightedMean(stream.size, passes=passes)
        for delta, weight in stream.turns(pool, updates):
            mean.add(delta, weight)
        return mean.mean()

    return work


def _guard_and_fold(stream: Stream, passes: Any, codec: str, updates: int) -> Callable[[], object]:
    from fedpeft.aggregation import UpdateGuard, WeightedMean
    from fedpeft.types import ClientId, ClientInfo, NodeId, Update

    info = ClientInfo(ClientId("c00"), NodeId(0), 100)
    guard = UpdateGuard(stream.size, 100.0, 1e6, passes=passes)

    def plain(delta: Any, weight: int) -> Update:
        return Update(info.client, 1, delta, weight)

    def coded(body: bytes, weight: int) -> Update:
        return Update.of_codes(info.client, 1, stream.codec.view(body, stream.size), weight)

    opened: Callable[[Any, int], Update] = coded if codec == "int8" else plain
    pool: list[Any] = stream.bodies if codec == "int8" else stream.deltas

    def work() -> object:
        mean = WeightedMean(stream.size, passes=passes)
        for item, weight in stream.turns(pool, updates):
            update = opened(item, weight)
            mean.add(update.foldable, guard.check(update, info).weight)
        return mean.mean()

    return work


def _flower(stream: Stream) -> Contender:
    import numpy as np
    from flwr.app import Array, ArrayRecord, MetricRecord, RecordDict
    from flwr.serverapp.strategy.strategy_utils import aggregate_arrayrecords

    cuts = np.linspace(0, stream.size, TENSORS + 1).astype(int)[1:-1]
    updates = min(stream.updates, 100, POOL_BYTES // (4 * stream.size))
    records = [
        RecordDict(
            {
                "arrays": ArrayRecord({f"t{k}": Array(part) for k, part in enumerate(np.split(delta, cuts))}),
                "metrics": MetricRecord({"num-examples": float(weight)}),
            }
        )
        for delta, weight in stream.turns(stream.deltas, updates)
    ]
    return Contender(
        lambda: aggregate_arrayrecords(records, "num-examples"), updates, "peer", note=f"{updates} records"
    )


def _times(stream: Stream, label: str, repeats: int) -> list[Figure]:
    found = contenders(stream)
    samples = interleaved({name: contender.work for name, contender in found.items()}, repeats=repeats)
    return [
        Figure.of(
            name,
            [1e3 * seconds / found[name].updates for seconds in taken],
            "ms",
            group=f"an update of {label}",
            role=found[name].role,
            goals=found[name].goals,
            note=found[name].note,
        )
        for name, taken in samples.items()
    ]


def _memory(stream: Stream, label: str) -> list[Figure]:
    """The stream's own buffers are there before; what is added is the accumulator and the result."""
    from fedpeft.aggregation.portable import Portable

    passes = _numba() or Portable()
    _fold(stream, passes, "fp32", 1)()  # what is imported on first use is no memory of a mean
    figures = []
    for codec in ("fp32", "int8"):
        work = _fold(stream, passes, codec, stream.updates)
        tracemalloc.start()
        work()
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        figures.append(
            Figure.of(
                codec,
                peak / 1e6,
                "MB",
                group=f"memory of a mean of {stream.updates} updates of {label}",
                goals=[Goal(3 * 4 * stream.size / 1e6 + 4)],
                note="8 bytes a value to sum in, 4 of the result; the target leaves 4 MB for temporaries",
            )
        )
    return figures


if __name__ == "__main__":
    sys.exit(main(__file__, measure))
