"""Clients of different masks in one call: each as if alone, in order, in the coordinates of the full model."""

from dataclasses import replace

import numpy as np
import pytest
from tiny_models import Classify, jobs
from tiny_pruning import made, some_mask

from fedpeft.pruning.scoring import SCORES
from fedpeft.training import SequentialTrainer
from fedpeft.training.choice import TrainerChoice, make_trainer
from fedpeft.training.pruned import PrunedTrainer


def trainer_of(adapter, pruner, together):
    def make(model):
        return make_trainer(TrainerChoice(together), model, Classify(), rows=4096, memory=10**8)

    return PrunedTrainer(make(adapter), pruner, make)


@pytest.mark.parametrize("together", [True, False])
def test_each_client_is_trained_on_what_its_mask_leaves(together):
    adapter, pruner = made("bert")
    start = adapter.get()
    masks = [b"", some_mask(pruner, 0.5), some_mask(pruner, 0.3), some_mask(pruner, 0.5)]
    work = [
        replace(job, plan=replace(job.plan, mask=mask, importance="lora-gradient"))
        for job, mask in zip(jobs("bert", start, 4), masks, strict=True)
    ]
    results = list(trainer_of(adapter, pruner, together).run(work))
    assert [result.plan.client for result in results] == ["c0", "c1", "c2", "c3"]
    alone = [next(trainer_of(*made("bert"), together).run([job])) for job in work]
    for result, single, mask in zip(results, alone, masks, strict=True):
        assert np.array_equal(result.delta, single.delta)
        assert result.sent[SCORES].shape == (pruner.units.count,)
        if mask:
            places = pruner.units.held(mask).places
            assert np.count_nonzero(result.delta) > 0.9 * len(places)
            assert not np.delete(result.delta, places).any()


def test_it_trains_the_smaller_model_as_it_would_be_trained_by_itself():
    adapter, pruner = made("bert")
    mask = some_mask(pruner)
    (job,) = jobs("bert", adapter.get(), 1)
    pruned = replace(job, plan=replace(job.plan, mask=mask))
    (found,) = trainer_of(adapter, pruner, together=False).run([pruned])
    smaller = pruner.shrunk(mask)
    (expected,) = SequentialTrainer(smaller.adapter, Classify()).run([replace(job, start=job.start[smaller.places])])
    assert np.array_equal(found.delta[smaller.places], expected.delta)
    assert found.sent == {}


def test_scores_do_not_depend_on_who_trains():
    adapter, pruner = made("bert")
    (job,) = jobs("bert", adapter.get(), 1)
    job = replace(job, plan=replace(job.plan, importance="lora-gradient", mask=some_mask(pruner)))
    one, other = (next(trainer_of(adapter, pruner, together).run([job])).sent[SCORES] for together in (True, False))
    np.testing.assert_allclose(one, other, rtol=1e-2, atol=1e-4)
