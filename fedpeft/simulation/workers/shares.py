"""How a cohort is cut: every worker gets about the same expected work.

The longest job goes to the worker that has least, the next longest again, and so on (Graham 1969, "Bounds on
multiprocessing timing anomalies", LPT rule: at most 4/3 - 1/(3 W) of the best possible time).
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence

import numpy as np

from fedpeft.training import TrainingJob


def expected_work(job: TrainingJob) -> float:
    """What a job takes, in tokens where lengths are known, else in examples: steps · batch · mean length."""
    batch = min(job.plan.batch_size, len(job.data))
    lengths = getattr(job.data, "lengths", None)
    mean = float(np.mean(lengths)) if lengths is not None and len(lengths) else 1.0
    return job.plan.steps * batch * mean


def cut(work: Sequence[float], workers: int) -> list[list[int]]:
    """Places in `work`, dealt to at most `workers` shares; a share keeps the order, none is empty.

    >>> cut([5, 1, 4, 2, 3], 2)
    [[0, 3], [1, 2, 4]]
    """
    shares: list[list[int]] = [[] for _ in range(workers)]
    loads = [(0.0, number) for number in range(workers)]
    for place in sorted(range(len(work)), key=lambda place: -work[place]):
        load, number = heapq.heappop(loads)
        shares[number].append(place)
        heapq.heappush(loads, (load + work[place], number))
    return [sorted(share) for share in shares if share]
