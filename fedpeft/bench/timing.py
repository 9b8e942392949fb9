"""Contenders timed side by side in one process, so that a busy machine slows all of them and their ratios stand."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Mapping


class Taken(float):
    """Seconds that a contender measured itself, because its work is done elsewhere."""


def interleaved(
    contenders: Mapping[str, Callable[[], object]],
    *,
    repeats: int,
    warmup: int = 1,
    clock: Callable[[], float] = time.process_time,
) -> dict[str, list[float]]:
    """Call every contender once a round, round after round.

    CPU time of this process is the default clock: on a shared machine the wall clock measures the neighbours too.
    With several processes at work it sees only one of them, so take `time.perf_counter` there. The garbage collector
    runs between the calls, never in them.

    Args:
        contenders: name -> the work of one sample. One that returns `Taken` has measured itself.
        repeats: samples of each.
        warmup: rounds before them that are not counted.
        clock: seconds.

    Returns:
        name -> seconds of each call, in the order of the rounds.
    """
    samples: dict[str, list[float]] = {name: [] for name in contenders}
    enabled = gc.isenabled()
    gc.disable()
    try:
        for round_number in range(warmup + repeats):
            for name, work in contenders.items():
                gc.collect()
                began = clock()
                result = work()
                taken = result if isinstance(result, Taken) else clock() - began
                if round_number >= warmup:
                    samples[name].append(float(taken))
    finally:
        if enabled:
            gc.enable()
    return samples


def repeated(work: Callable[[], object], times: int) -> Callable[[], None]:
    """Work so often that one sample is long against the clock's resolution; divide the seconds by `times`."""

    def run() -> None:
        for _ in range(times):
            work()

    return run
