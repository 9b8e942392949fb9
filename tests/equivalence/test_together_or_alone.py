"""Who shares a client's passes does not change one bit of the adapter; and one at a time learns the same."""

from __future__ import annotations

import pytest
import torch
from tiny import Stop, run_tiny, stop_at
from tiny_text import write_run

from fedpeft import api
from fedpeft.config import load_run_file
from fedpeft.journal import EventKind, Journal
from fedpeft.kernels.onednn import OneDnn

pytestmark = pytest.mark.slow

BASE = {
    "devices": [{"name": "phone", "clients": 4}, {"name": "laptop", "clients": 4, "steps": 5}],
    "round": {"ask": 6},
    "local": {"steps": 3, "batch_size": 4, "learning_rate": 0.01},
    "data__partition": {"name": "dirichlet", "alpha": 1.0},
    "adapter__dropout": 0.1,
}
PACKED = pytest.param(
    "onednn", marks=pytest.mark.skipif(OneDnn().available(torch.zeros(1)) != "", reason="no packed kernel here")
)
KERNELS = ["torch", PACKED]


def run(folder, *, engine, **more):
    plans = []
    result = api.run(load_run_file(write_run(folder, **BASE, engine=engine, **more)), on_plan=plans.append)
    return result, plans[0]


@pytest.mark.parametrize("kernel", KERNELS)
def test_hashes_are_equal_for_any_cohort_and_any_size_of_passes(tmp_path, kernel):
    hashes = {}
    for number, engine in enumerate(
        [
            {"lookahead": 1},
            {"lookahead": 64},
            {"lookahead": 3},
            {"rows": 1},
            {"rows": 40},
            {"memory_mb": 1},
        ]
    ):
        result, plan = run(tmp_path / str(number), engine={"kernel": kernel, **engine})
        assert plan.trainer.startswith("together")
        assert plan.notes == ()
        hashes[str(engine)] = result.adapter_hash
    assert len(set(hashes.values())) == 1, hashes


@pytest.mark.parametrize("kernel", ["auto", *KERNELS])
@pytest.mark.parametrize(("kind", "count"), [(EventKind.ACCEPTED, 4), (EventKind.COMMITTED, 2)])
def test_resumed_is_as_uninterrupted(tmp_path, kernel, kind, count):
    whole, _ = run(tmp_path / "whole", engine={"kernel": kernel})
    config = load_run_file(write_run(tmp_path / "parts", **BASE, engine={"kernel": kernel}))
    with pytest.raises(Stop):
        api.run(config, observers=[stop_at(kind, count)])
    parts = api.resume(config.folder)
    assert parts.adapter_hash == whole.adapter_hash
    assert parts.finished


@pytest.mark.parametrize("task", ["label-names", "linear-head"])
def test_one_at_a_time_learns_the_same(tmp_path, task):
    accuracies = {}
    for trainer in ("batched", "sequential"):
        result, plan = run(
            tmp_path / trainer, engine={"trainer": trainer}, model__task=task, run__rounds=6, adapter__rank=4
        )
        assert plan.trainer.startswith("together" if trainer == "batched" else "one at a time")
        accuracies[trainer] = result.federated
        assert result.federated > result.zero_shot
    assert abs(accuracies["batched"] - accuracies["sequential"]) <= 1 / 16 + 1e-9  # one of the 16 test examples


def test_a_loss_that_is_a_mean_runs_one_at_a_time_and_says_why(tmp_path):
    from tiny import tiny_arguments

    from fedpeft import simulate

    arguments = tiny_arguments(tmp_path / "mean", rounds=2)
    each = arguments["loss"]
    result = simulate(**(arguments | {"loss": lambda model, batch: each(model, batch).mean()}))
    with Journal.read(result.folder) as journal:
        (started,) = journal.events(EventKind.RUN_STARTED)
    assert started.payload["plan"]["trainer"] == "one at a time"
    assert "one mean over a batch" in started.payload["plan"]["notes"][0]
    together = run_tiny(tmp_path / "each", rounds=2)
    assert abs(together.federated - result.federated) <= 2 / 64
