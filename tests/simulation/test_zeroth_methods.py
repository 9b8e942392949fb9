"""Optimizers, estimators and objectives of `[zeroth]` from the run file: they learn and replay, or are refused."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from quadratic import OPTIMUM, run_quadratic
from safetensors.torch import load_file
from tiny_text import write_run

from fedpeft import api
from fedpeft.config import load_run_file
from fedpeft.errors import ConfigError, ModelError, PluginError
from fedpeft.journal import EventKind, Journal
from fedpeft.simulation.federation import assemble
from fedpeft.simulation.plan import make_plan
from fedpeft.strategies import FedAvg
from fedpeft.training.choice import TrainerChoice
from fedpeft.training.zeroth.batched import BatchedZerothTrainer
from fedpeft.training.zeroth.trainer import ZerothTrainer

pytestmark = pytest.mark.slow

SMALL = {"zeroth__size": 64, "zeroth__refresh": 5}
TEXT = {"zeroth__size": 256, "local__optimizer": "sgd"}


def run(folder, **options):
    return run_quadratic(folder, FedAvg(), **{**SMALL, **options})


def exported(folder):
    tensors = load_file(folder / "quadratic" / "adapter" / "trained.safetensors")
    return torch.cat([tensors[name].reshape(-1) for name in sorted(tensors)]).numpy()


def away(folder):
    return np.linalg.norm(exported(folder) - OPTIMUM) / np.linalg.norm(OPTIMUM)


OPTIMIZERS = {
    "momentum": ({"beta": 0.8}, 0.004),
    "sign": ({}, 0.01),
    "adam": ({}, 0.003),
    "spsa-gc": ({"beta": 0.8}, 0.004),
    "adamu": ({}, 0.02),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_optimizer_reaches_the_optimum(tmp_path, name):
    params, rate = OPTIMIZERS[name]
    optimizer = {"name": name, **params}
    about = {"zeroth__optimizer": optimizer, "local__learning_rate": rate}
    result = run(tmp_path, rounds=30, steps=60, **about)
    assert result.refused == ()
    assert away(tmp_path) < 0.35


def test_the_independent_pool_serves_dense_steps_too(tmp_path):
    about = {"zeroth__optimizer": {"name": "momentum", "beta": 0.8}, "local__learning_rate": 0.004}
    run(tmp_path, rounds=30, steps=60, zeroth__pool="independent", **about)
    assert away(tmp_path) < 0.3


def test_state_begins_anew_with_every_round(tmp_path):
    """So a run that is resumed, or whose clients move to other workers, is the same run."""
    about = {"zeroth__optimizer": {"name": "adam"}, "local__learning_rate": 0.001}
    whole = run(tmp_path / "whole", rounds=6, **about)
    run(tmp_path / "cut", rounds=3, **about)
    assert run(tmp_path / "cut", rounds=6, resume=True, **about).adapter_hash == whole.adapter_hash
    assert run(tmp_path / "two", rounds=6, engine__workers=2, **about).adapter_hash == whole.adapter_hash


def test_a_conservative_run_with_a_rate_that_is_far_too_large(tmp_path):
    about = {"local__learning_rate": 0.3, "zeroth__clip": 100.0}
    run(tmp_path / "careful", rounds=10, zeroth__conservative=True, **about)
    run(tmp_path / "bold", rounds=10, **about)
    assert away(tmp_path / "careful") < 1.0  # where it began
    assert away(tmp_path / "bold") > 2.0


def test_forward_gradients_reach_the_optimum(tmp_path):
    run(tmp_path, rounds=15, steps=40, zeroth__estimator={"name": "forward-gradient"}, local__learning_rate=0.03)
    assert away(tmp_path) < 0.25


def text_run(folder, **changes):
    return api.run(load_run_file(write_run(folder, **{**TEXT, **changes})))


@pytest.mark.parametrize("adapter", [{}, {"adapter": {"type": "full"}}], ids=["lora", "full"])
@pytest.mark.parametrize("kernel", ["torch", "auto"])
def test_forward_gradients_of_a_text_model(tmp_path, adapter, kernel):
    changes = {"zeroth__estimator": {"name": "forward-gradient", "queries": 2}, "engine__kernel": kernel, **adapter}
    path = write_run(tmp_path, **TEXT, **changes)
    federation = assemble(load_run_file(path))
    assert "slopes are taken by forward-mode differentiation" in federation.trainer_choice.note
    assert isinstance(federation.trainer(), ZerothTrainer)
    notes = " ".join(make_plan(federation).notes)
    assert "2 forward-mode passes a step, with 4 bytes a trained weight for the tangent" in notes
    assert api.run(load_run_file(path)).finished


@pytest.mark.parametrize("trainer", ["sequential", "batched"])
def test_the_error_of_a_text_model(tmp_path, trainer):
    path = write_run(
        tmp_path, **TEXT, zeroth__objective="error", zeroth__perturbation=0.1, engine__trainer=trainer, local__steps=8
    )
    federation = assemble(load_run_file(path))
    assert federation.trainer_choice == TrainerChoice(trainer == "batched")
    assert isinstance(federation.trainer(), BatchedZerothTrainer if trainer == "batched" else ZerothTrainer)
    assert api.run(load_run_file(path)).finished
    with Journal.read(tmp_path / "runs" / "colours") as journal:
        losses = [event.payload["loss_last"] for event in journal.events(EventKind.ACCEPTED)]
    assert losses
    assert all(8 * loss == pytest.approx(round(8 * loss)) for loss in losses)  # halves of quarters: 4 examples, 2 looks


TOGETHER = {
    "momentum": {"zeroth__optimizer": {"name": "momentum"}},
    "adamu": {"zeroth__optimizer": {"name": "adamu"}},
    "conservative": {"zeroth__conservative": True},
}


@pytest.mark.parametrize("case", TOGETHER)
def test_a_text_model_whose_clients_are_trained_together(tmp_path, case):
    changes = {**TEXT, **TOGETHER[case], "local__steps": 8}
    federation = assemble(load_run_file(write_run(tmp_path, **changes)))
    assert federation.trainer_choice == TrainerChoice(True)
    result = text_run(tmp_path, **changes)
    assert result.finished
    assert result.refused == ()


def test_another_optimizer_is_another_federation(tmp_path):
    """A client whose run file says another one would replay otherwise: its layout tells."""
    layouts = []
    for changes in (
        {},
        {"zeroth__optimizer": {"name": "momentum"}},
        {"zeroth__optimizer": {"name": "momentum", "beta": 0.5}},
        {"zeroth__objective": "error"},
        {"zeroth__conservative": True},
    ):
        config = load_run_file(write_run(tmp_path, **{**TEXT, **changes}))
        layouts.append(assemble(config).sharing.shared.digest)
    assert len(set(layouts)) == 5


def test_an_optimizer_of_one_s_own(tmp_path):
    (tmp_path / "half.py").write_text(
        "from fedpeft.zeroth.optimizers import CoefficientOptimizer\n"
        "class Half(CoefficientOptimizer):\n"
        "    stays = stateless = True\n"
        "    def __init__(self, factor=0.5):\n"
        "        self.factor = factor\n"
        "    def step(self, state, gradient, rate):\n"
        "        return -self.factor * rate * gradient, state\n"
        "    def reach(self, clip, drawn, size):\n"
        "        return self.factor * clip\n",
        encoding="utf-8",
    )
    assert text_run(tmp_path, zeroth__optimizer={"name": "half.py:Half", "factor": 0.25}).finished


def test_the_plan_says_how_far_one_client_can_go_and_what_a_step_costs(tmp_path):
    def notes(**changes):
        return " ".join(make_plan(assemble(load_run_file(write_run(tmp_path, **{**TEXT, **changes})))).notes)

    momentum = notes(zeroth__optimizer={"name": "momentum"}, zeroth__clip=50.0)
    assert "momentum: a drawn direction moves no weight by more than 500 rates" in momentum
    assert "one pass over the weights" in momentum
    independent = notes(zeroth__optimizer={"name": "momentum"}, zeroth__pool="independent")
    assert "a rebuild of the epoch from what was drawn" in independent
    assert "moves no weight by more than 1 rates" in notes(zeroth__optimizer={"name": "sign"})
    assert "2 forward passes a step and 3 to see which way is best" in notes(zeroth__conservative=True)
    assert "moves no weight" not in notes()


REFUSED = {
    "adamw": (
        {"local__optimizer": "adamw"},
        r"local\.optimizer = 'adamw' contradicts(.|\n)*zeroth\.optimizer: sgd, momentum",
    ),
    "unknown": ({"zeroth__optimizer": {"name": "adamw"}}, 'coefficient_optimizer "adamw" is not known'),
    "parameter": ({"zeroth__optimizer": {"name": "momentum", "beta": 1.0}}, "beta = 1.0 must be from 0 to below 1"),
    "objective": ({"zeroth__objective": "accuracy"}, "zeroth.objective"),
    "slope of errors": (
        {"zeroth__objective": "error", "zeroth__estimator": {"name": "forward-gradient"}},
        'zeroth.objective = "error" contradicts zeroth.estimator.name = "forward-gradient"',
    ),
    "conservative signs": (
        {"zeroth__conservative": True, "zeroth__scalars": "sign"},
        'zeroth.conservative = true contradicts zeroth.scalars = "sign": it cannot',
    ),
    "conservative codec": (
        {"zeroth__conservative": True, "codec__up": "sign"},
        'zeroth.conservative = true contradicts codec.up = "sign"',
    ),
    "conservative codec of a class": (
        {"zeroth__conservative": True, "devices": [{"name": "phone", "clients": 4, "codec": "sign"}]},
        'zeroth.conservative = true contradicts devices.codec of class "phone" = "sign"',
    ),
    "conservative codec of another name": (
        {"zeroth__conservative": True, "codec__up": "bitdelta"},
        'zeroth.conservative = true contradicts codec.up = "bitdelta"',
    ),
    "votes that grow": (
        {"zeroth__scalars": "sign", "codec__up": "rotate+int4"},
        'zeroth.scalars = "sign" contradicts codec.up = "rotate.int4": votes of 1 and -1 come out larger',
    ),
    "conservative momentum": (
        {"zeroth__conservative": True, "zeroth__optimizer": {"name": "momentum"}},
        'contradicts zeroth.optimizer.name = "momentum": it moves on',
    ),
    "signs of signs": (
        {"zeroth__scalars": "sign", "zeroth__optimizer": {"name": "sign"}},
        "say one thing twice",
    ),
    "votes with a state": (
        {"strategy": {"name": "sign-vote"}, "zeroth__optimizer": {"name": "adam"}},
        'strategy.name = "sign-vote" contradicts zeroth.optimizer.name = "adam"',
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_means_nothing_is_refused_before_anything_is_loaded(case, tmp_path):
    changes, message = REFUSED[case]
    path = write_run(tmp_path, **{**TEXT, **changes})
    (tmp_path / "model" / "config.json").unlink()
    with pytest.raises((ConfigError, PluginError), match=message):
        api.run(load_run_file(path))


def test_a_task_without_right_answers_has_no_error(tmp_path):
    """A user's own loss: it may return what is wrong itself."""
    with pytest.raises(ConfigError, match=r'zeroth\.objective = "error".*no accuracy'):
        run(tmp_path, rounds=1, zeroth__objective="error")


def test_a_model_without_forward_mode_is_refused_at_start(tmp_path, monkeypatch):
    import quadratic

    class Stop(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x.clone()

    plain = quadratic.loss
    monkeypatch.setattr(quadratic, "loss", lambda model, batch: Stop.apply(plain(model, batch)))
    with pytest.raises(ModelError, match="no forward-mode derivative"):
        run(tmp_path, rounds=1, zeroth__estimator={"name": "forward-gradient"})
