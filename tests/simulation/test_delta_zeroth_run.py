"""A run without gradients whose clients send deltas: an ordinary run, but for how its clients find their way."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from quadratic import OPTIMUM, run_quadratic
from safetensors.torch import load_file
from tiny_text import write_run

from fedpeft import api
from fedpeft.config import load_run_file
from fedpeft.errors import ConfigError, PluginError
from fedpeft.journal import EventKind, Journal
from fedpeft.simulation.federation import assemble
from fedpeft.strategies import FedAdam, FedAvg, FedAvgM
from fedpeft.training.choice import TrainerChoice
from fedpeft.training.zeroth.batched import BatchedZerothTrainer
from fedpeft.training.zeroth.local.record import LocalRecord
from fedpeft.training.zeroth.trainer import ZerothTrainer

pytestmark = pytest.mark.slow

SMALL = {"zeroth__sends": "delta", "zeroth__size": 64, "zeroth__refresh": 5, "local__learning_rate": 0.02}
TEXT = {"zeroth__sends": "delta", "zeroth__size": 256, "local__optimizer": "zo-adam"}
RATES = {"sgd": 0.02, "zo-adam": 0.1, "zo-adamu": 0.02}


def run(folder, strategy=None, **options):
    return run_quadratic(folder, strategy or FedAvg(), **{**SMALL, **options})


def of(name):
    return {"local__optimizer": name, "local__learning_rate": RATES[name]}


def events(folder, kind):
    with Journal.read(folder / "quadratic") as journal:
        return list(journal.events(kind))


def exported(folder):
    tensors = load_file(folder / "quadratic" / "adapter" / "trained.safetensors")
    return torch.cat([tensors[name].reshape(-1) for name in sorted(tensors)]).numpy()


def distance(folder):
    """From the optimum, where the start's is 1."""
    return np.linalg.norm(exported(folder) - OPTIMUM) / np.linalg.norm(OPTIMUM)


@pytest.mark.parametrize("name", RATES)
def test_it_reaches_the_optimum(tmp_path, name):
    result = run(tmp_path, rounds=30, steps=40, **of(name))
    assert distance(tmp_path) < 0.25
    assert result.refused == ()


def test_fedzo_is_an_average_of_deltas_that_any_strategy_folds(tmp_path):
    """FedAdam's step counts in θ here, not in coefficients."""
    run(tmp_path, FedAdam(learning_rate=0.3), rounds=40, steps=20)
    assert distance(tmp_path) < 0.6


@pytest.mark.parametrize("name", RATES)
@pytest.mark.parametrize("strategy", [FedAvg, FedAvgM])
def test_resumed_is_uninterrupted(tmp_path, strategy, name):
    """Residuals of the codec on the clients' disks and all: the optimizers' state ends with the round."""
    whole = run(tmp_path / "whole", strategy(), rounds=6, **of(name))
    seen = []

    class Enough(BaseException):
        pass

    def stop(event):
        seen.append(event.kind)
        if seen.count(EventKind.COMMITTED) == 4:
            raise Enough

    with pytest.raises(Enough):
        run(tmp_path / "cut", strategy(), rounds=6, observers=[stop], **of(name))
    assert run(tmp_path / "cut", strategy(), rounds=6, resume=True, **of(name)).adapter_hash == whole.adapter_hash


@pytest.mark.parametrize("name", ["zo-adam", "zo-adamu"])
def test_workers_and_passes_give_the_same_bits(tmp_path, name):
    hashes = set()
    for number, engine in enumerate([{}, {"workers": 2}, {"lookahead": 1}, {"rows": 1}, {"memory_mb": 1}]):
        path = write_run(tmp_path / str(number), **{**TEXT, "local__optimizer": name}, engine=engine)
        plans = []
        hashes.add(api.run(load_run_file(path), on_plan=plans.append).adapter_hash)
        assert plans[0].trainer.startswith("together")
    assert len(hashes) == 1


def test_what_goes_up_is_the_delta_in_the_run_s_codec(tmp_path):
    run(tmp_path / "few", rounds=1, steps=10, codec__up="fp16")
    run(tmp_path / "many", rounds=1, steps=210, codec__up="fp16")
    sizes = [events(tmp_path / name, EventKind.ACCEPTED)[0].payload["bytes"] for name in ("few", "many")]
    assert abs(sizes[1] - sizes[0]) <= 4  # of a metric or two


def test_late_and_asynchronous_updates(tmp_path):
    result = run(tmp_path, rounds=12, ask=4, round__mode="async", round__buffer=2, zeroth__refresh=2)
    assert result.finished
    assert result.refused == ()


def test_the_best_round_and_what_a_client_makes_of_it(tmp_path):
    more = {"evaluation__keep": "best", "evaluation__clients_every": 1, "evaluation__personalised_steps": 5}
    result = run(tmp_path, rounds=4, **more, **of("zo-adam"))
    assert (tmp_path / "quadratic" / "adapter-last").is_dir()
    assert {"tuned"} <= set(result.clients)


def test_a_tensor_of_one_s_own_stays_on_its_client(tmp_path):
    """As in a run by gradients: `tail` is trained by everybody for themselves, and nobody sends it."""
    run(tmp_path, rounds=20, steps=40, adapter__private=["tail"])
    tensors = load_file(tmp_path / "quadratic" / "adapter" / "trained.safetensors")
    assert not tensors["tail"].any()
    shared = events(tmp_path, EventKind.ACCEPTED)[0].payload["norm"]
    assert shared > 0
    assert np.linalg.norm(tensors["head"].numpy() - OPTIMUM[:3]) < 0.4 * np.linalg.norm(OPTIMUM[:3])


def test_a_frozen_tensor_is_not_moved(tmp_path):
    run(tmp_path, rounds=3, adapter__frozen=["tail"])
    assert "tail" not in load_file(tmp_path / "quadratic" / "adapter" / "trained.safetensors")


def test_no_gradient_is_held_and_state_is_told(tmp_path):
    federation = assemble(load_run_file(write_run(tmp_path, **TEXT)))
    assert federation.adapter.gradient.numel() == 0
    assert federation.replica is None
    assert federation.trainer_choice == TrainerChoice(True)
    trainer = federation.trainer()
    assert isinstance(trainer, BatchedZerothTrainer)
    assert trainer.records is LocalRecord
    assert federation.adapter.gradient.numel() == 0
    plan = api.validate(load_run_file(write_run(tmp_path, **TEXT)))
    size = federation.adapter.layout.size
    assert f"clients send deltas of {size:,} weights; zo-adam keeps 8 bytes a weight on each" in " ".join(plan.notes)


def test_an_optimizer_s_state_counts_as_memory_of_a_device(tmp_path):
    def needed(name):
        path = write_run(tmp_path, adapter={"type": "full"}, **{**TEXT, "local__optimizer": name})
        return api.validate(load_run_file(path)).devices[0].memory_mb_needed

    size = assemble(load_run_file(write_run(tmp_path, adapter={"type": "full"}, **TEXT))).adapter.layout.size
    assert needed("zo-adam") - needed("sgd") == pytest.approx(8e-6 * size)
    assert needed("zo-adamu") - needed("sgd") == pytest.approx((4 + 1 / 8) * 1e-6 * size, abs=1e-6)


def test_many_at_a_time_only_where_their_state_fits(tmp_path):
    own = {"adapter": {"type": "full"}, **TEXT, "engine__memory_mb": 1}
    own["zeroth__estimator"] = {"name": "forward", "queries": 12}
    federation = assemble(load_run_file(write_run(tmp_path, **own)))
    assert "for every point of a step, and 2 times that for its optimizer" in federation.trainer_choice.note
    assert isinstance(federation.trainer(), ZerothTrainer)


@pytest.mark.parametrize("name", RATES)
def test_a_text_model_learns_and_is_exported(tmp_path, name):
    changes = {**TEXT, "local__optimizer": name, "local__steps": 40, "run__rounds": 6, "round__ask": 3}
    changes["local__learning_rate"] = {"sgd": 0.005, "zo-adam": 0.01, "zo-adamu": 0.005}[name]
    result = api.run(load_run_file(write_run(tmp_path, **changes, local__batch_size=16)))
    assert (result.folder / "adapter" / "adapter_model.safetensors").is_file()
    with Journal.read(result.folder) as journal:
        accepted = list(journal.events(EventKind.ACCEPTED))
    before = np.mean([e.payload["loss_first"] for e in accepted if e.round == 1])
    after = np.mean([e.payload["loss_last"] for e in accepted if e.round == 6])
    assert after < 0.9 * before


@pytest.mark.parametrize("name", RATES)
@pytest.mark.parametrize("more", [{"estimator": {"name": "forward-gradient"}}, {"objective": "error"}])
def test_slopes_and_errors_serve_as_well(tmp_path, name, more):
    keys = {f"zeroth__{key}": value for key, value in more.items()}
    assert api.run(load_run_file(write_run(tmp_path, **{**TEXT, "local__optimizer": name}, **keys))).finished


PARTS = {"blocks": {"blocks": 4}, "sparse": {"sparse": 0.5}} | {
    pool: {"pool": pool} for pool in ("independent", "fresh", "near-gaussian", "gaussian")
}


@pytest.mark.parametrize("name", RATES)
@pytest.mark.parametrize("part", PARTS)
def test_any_directions_serve(tmp_path, name, part):
    keys = {f"zeroth__{key}": value for key, value in PARTS[part].items()}
    losses = {}
    for trainer in ("batched", "sequential"):
        path = write_run(tmp_path / trainer, **{**TEXT, "local__optimizer": name}, **keys, engine={"trainer": trainer})
        result = api.run(load_run_file(path))
        assert result.refused == ()
        with Journal.read(result.folder) as journal:
            losses[trainer] = [e.payload["loss_last"] for e in journal.events(EventKind.ACCEPTED)]
    np.testing.assert_allclose(losses["batched"], losses["sequential"], rtol=1e-3)


@pytest.mark.parametrize("strategy", ["fedsa", "ffa", "sign-vote", "median", "trimmed-mean", "fedbuff", "fedyogi"])
def test_strategies_without_gradients_on_their_clients(tmp_path, strategy):
    path = write_run(tmp_path, strategy={"name": strategy}, **TEXT)
    assert api.run(load_run_file(path)).finished


OWN = """
class Halfway:
    draws, vectors = 1, 0

    def __init__(self, size, plan):
        self.rate = plan.learning_rate

    def look(self, drawn):
        return [direction for (direction,) in drawn]

    def move(self, theta, directions, scalars):
        for direction, scalar in zip(directions, scalars):
            direction.add_to(theta.numpy(), -0.5 * self.rate * float(scalar))


class Nothing:
    draws = 1
"""


def test_an_optimizer_of_one_s_own_in_a_file(tmp_path):
    (tmp_path / "own.py").write_text(OWN)
    path = write_run(tmp_path, **{**TEXT, "local__optimizer": "own.py:Halfway"})
    assert api.run(load_run_file(path)).finished
    path = write_run(tmp_path, **{**TEXT, "local__optimizer": "own.py:Nothing"})
    with pytest.raises(ConfigError, match="is no LocalOptimizer: it has no vectors, look, move"):
        api.run(load_run_file(path))


BAD = {
    "adamw": ({"local__optimizer": "adamw"}, "local.optimizer = 'adamw' contradicts.*steps by gradients"),
    "signs": ({"zeroth__scalars": "sign"}, "zeroth.scalars = 'sign' contradicts zeroth.sends = \"delta\""),
    "resolution": ({"zeroth__resolution": 9}, 'zeroth.resolution = 9 contradicts zeroth.sends = "delta"'),
    "two optimizers": (
        {"zeroth__optimizer": {"name": "adam"}},
        "zeroth.optimizer.name = 'adam' contradicts.*local",
    ),
    "conservative": ({"zeroth__conservative": True}, 'zeroth.conservative = True contradicts zeroth.sends = "delta"'),
    "importance": ({"zeroth__sampling": "importance"}, "zeroth.sampling = 'importance' contradicts zeroth.sends"),
    "deviations": ({"zeroth__deviations": 3.0}, "zeroth.deviations = 3.0 contradicts zeroth.sends"),
    "bf16": ({"model__dtype": "bf16"}, "model.dtype = 'bf16' contradicts.*noise"),
    "centralised": ({"evaluation__centralised": True}, "evaluation.centralised = True contradicts"),
    "ranks": ({"devices": [{"name": "p", "clients": 3, "rank": 1}]}, 'devices.rank of class "p" contradicts'),
    "decay of what stays": (
        {"local__weight_decay": 0.1, "zeroth__sparse": 0.5},
        "local.weight_decay = 0.1 contradicts.*zeroth.sparse",
    ),
    "sends": ({"zeroth__sends": "deltas"}, "zeroth.sends = \"deltas\"|zeroth.sends = 'deltas'"),
}


@pytest.mark.parametrize("case", BAD)
def test_contradictions_name_key_value_and_remedy(case, tmp_path):
    changes, message = BAD[case]
    with pytest.raises(ConfigError, match=message):
        load_run_file(write_run(tmp_path, **{**TEXT, **changes}))


@pytest.mark.parametrize("name", ["zo-adam", "zo-adamu"])
def test_scalars_have_no_optimizer_with_state_for_each_weight(name, tmp_path):
    path = write_run(tmp_path, **{**TEXT, "zeroth__sends": "scalars", "local__optimizer": name})
    with pytest.raises(ConfigError, match=f"local.optimizer = '{name}' contradicts .*replayed") as caught:
        load_run_file(path)
    assert 'zeroth.sends = "delta"' in str(caught.value.allowed)


def test_gradients_have_none_of_these_optimizers(tmp_path):
    with pytest.raises(PluginError, match='optimizer "zo-adam" is not known'):
        api.run(load_run_file(write_run(tmp_path, local__optimizer="zo-adam")))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"local__optimizer": "zo-adan"}, 'zeroth_optimizer "zo-adan" is not known'),
        ({"strategy": {"name": "fedprox"}}, "its client half works on gradients, and there are none"),
        ({"strategy": {"name": "scaffold"}}, "its client half works on gradients, and there are none"),
    ],
)
def test_what_plugins_refuse_is_said_before_anything_is_loaded(changes, message, tmp_path):
    path = write_run(tmp_path, **{**TEXT, **changes, "model__source": "no-such-folder"})
    with pytest.raises((PluginError, ConfigError), match=message):
        api.run(load_run_file(path))
