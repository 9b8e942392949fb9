"""Jobs that start from a checkpoint measure what those measure that start from all coefficients, bit by bit."""

from dataclasses import replace

import numpy as np
import pytest
import zeroth_jobs
from zeroth_jobs import K, job, some_start

from fedpeft.training.zeroth.batched import BatchedZerothTrainer
from fedpeft.training.zeroth.trainer import ZerothTrainer
from fedpeft.zeroth.checkpoint import CHECKPOINT, chain, stand_in


def by_checkpoint(client, start, replica, **more):
    """The job of one who holds θ_1; its round is of epoch 1."""
    own = start.copy()
    own[:K] = stand_in(chain(start[:K].astype(np.int64)[None]), K)
    found = at_round(job(client, start=own, **more), 4)
    return replace(found, received={CHECKPOINT: replica.after(start, 1).copy()})


def at_round(found, number):
    return replace(found, plan=replace(found.plan, round=number))


@pytest.mark.parametrize("pool", ["hadamard", "independent"])
@pytest.mark.parametrize("kind", [ZerothTrainer, BatchedZerothTrainer])
def test_scalars_and_fingerprint_are_the_same(kind, pool):
    start, other = some_start(), some_start()
    other[:K] += 7
    plain = [at_round(job(c, start=s), 4) for c, s in (("a", start), ("b", other), ("c", start))]
    source = zeroth_jobs.trainer(kind, pool=pool).replica
    named = [by_checkpoint(c, s, source) for c, s in (("a", start), ("b", other), ("c", start))]
    mixed = [named[0], named[1], plain[2]]
    expected = list(zeroth_jobs.trainer(kind, pool=pool).run(plain))
    for jobs in (named, mixed):
        for result, right in zip(zeroth_jobs.trainer(kind, pool=pool).run(jobs), expected, strict=True):
            assert result.fault is None
            assert (result.scalars == right.scalars).all()
            assert result.metrics["replica"] == right.metrics["replica"]


@pytest.mark.parametrize("kind", [ZerothTrainer, BatchedZerothTrainer])
def test_one_without_what_it_names_costs_its_client(kind):
    source = zeroth_jobs.trainer(kind).replica
    good = by_checkpoint("a", some_start(), source)
    without = replace(by_checkpoint("b", some_start(), source), received={})
    early = at_round(by_checkpoint("c", some_start(), source), 2)
    results = {result.plan.client: result for result in zeroth_jobs.trainer(kind).run([good, without, early])}
    assert results["a"].fault is None
    assert "which did not come with it" in results["b"].fault.message
    assert "names a checkpoint of 1 epochs, and its round's is still open" in results["c"].fault.message
