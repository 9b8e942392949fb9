"""A zeroth-order run from its run file to its exported model: it learns, and everybody has the same bits."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
import torch
from quadratic import OPTIMUM, run_quadratic
from safetensors.torch import load_file, save_file
from tiny_text import write_run

from fedpeft import api
from fedpeft.config import load_run_file
from fedpeft.errors import ConfigError, JournalError, PluginError
from fedpeft.journal import EventKind, Journal
from fedpeft.registry import build
from fedpeft.simulation.federation import assemble
from fedpeft.strategies import FedAdam, FedAvg, FedAvgM
from fedpeft.training.choice import TrainerChoice
from fedpeft.training.zeroth.batched import BatchedZerothTrainer
from fedpeft.training.zeroth.trainer import ZerothTrainer
from fedpeft.zeroth.coordinates import Coordinates

SMALL = {"zeroth__size": 64, "zeroth__refresh": 5, "local__learning_rate": 0.02}
IMPORTANCE = {"zeroth__sampling": "importance", "zeroth__temperature": 4.0}
ALL_AT_ONCE = {
    **IMPORTANCE,
    "zeroth__optimizer": {"name": "spsa-gc", "beta": 0.5},
    "zeroth__deviations": 3.0,
    "zeroth__pool": "near-gaussian",
    "zeroth__sparse": 0.5,
}


def run(folder, strategy=None, **options):
    return run_quadratic(folder, strategy or FedAvg(), **{**SMALL, **options})


def events(folder, kind):
    with Journal.read(folder / "quadratic") as journal:
        return list(journal.events(kind))


def exported(folder):
    tensors = load_file(folder / "quadratic" / "adapter" / "trained.safetensors")
    return torch.cat([tensors[name].reshape(-1) for name in sorted(tensors)]).numpy()


@pytest.mark.parametrize("pool", ["hadamard", "independent"])
def test_it_reaches_the_optimum(tmp_path, pool):
    run(tmp_path, zeroth__pool=pool, rounds=30, steps=40)
    assert np.linalg.norm(exported(tmp_path) - OPTIMUM) < 0.25 * np.linalg.norm(OPTIMUM)


def test_its_hash_is_that_of_the_exported_model(tmp_path):
    result = run(tmp_path, rounds=6)
    assert result.adapter_hash == hashlib.sha256(exported(tmp_path).astype("<f4").tobytes()).hexdigest()


@pytest.mark.slow
@pytest.mark.parametrize("options", [{}, IMPORTANCE, {**IMPORTANCE, "zeroth__deviations": 3.0}, ALL_AT_ONCE])
@pytest.mark.parametrize("strategy", [FedAvg, FedAvgM])
def test_resumed_is_uninterrupted(tmp_path, strategy, options):
    whole = run(tmp_path / "whole", strategy(), rounds=8, **options)
    seen = []

    class Enough(BaseException):
        pass

    def stop(event):
        seen.append(event.kind)
        if seen.count(EventKind.COMMITTED) == 5:
            raise Enough

    with pytest.raises(Enough):
        run(tmp_path / "cut", strategy(), rounds=8, observers=[stop], **options)
    assert run(tmp_path / "cut", strategy(), rounds=8, resume=True, **options).adapter_hash == whole.adapter_hash


@pytest.mark.slow
@pytest.mark.parametrize("options", [{}, IMPORTANCE])
@pytest.mark.parametrize("strategy", [FedAvg, FedAvgM])
def test_a_run_that_goes_on_for_more_rounds_has_more_epochs(tmp_path, strategy, options):
    whole = run(tmp_path / "whole", strategy(), rounds=12, **options)
    run(tmp_path / "more", strategy(), rounds=4, **options)
    more = run(tmp_path / "more", strategy(), rounds=12, resume=True, **options)
    assert more.adapter_hash == whole.adapter_hash
    assert more.refused == ()


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["sync", "async"])
def test_both_sides_draw_the_same_by_importance(tmp_path, monkeypatch, mode):
    """What a client draws from what it holds, and what the coordinator draws when its answer comes."""
    drawn, draw = {}, Coordinates.draw

    def told(self, round_number, client, steps, start=None):
        found = draw(self, round_number, client, steps, start)
        drawn.setdefault((round_number, client), []).append(found.tolist())
        return found

    monkeypatch.setattr(Coordinates, "draw", told)
    more = {"round__mode": mode, "round__buffer": 2} if mode == "async" else {}
    result = run(tmp_path, rounds=12, steps=30, ask=4, **IMPORTANCE, **more)
    answered = {(e.round, e.client) for e in events(tmp_path, EventKind.ACCEPTED)}
    assert result.refused == ()
    assert len(answered) >= 24
    for key in answered:
        first, *others = drawn[key]
        assert others
        assert all(other == first for other in others)
    uniform = run(tmp_path / "uniform", rounds=12, steps=30, ask=4, **more)
    assert uniform.adapter_hash != result.adapter_hash


@pytest.mark.slow
def test_it_comes_near_the_optimum_by_importance(tmp_path):
    run(tmp_path, rounds=30, steps=40, **IMPORTANCE)
    assert np.linalg.norm(exported(tmp_path) - OPTIMUM) < 0.4 * np.linalg.norm(OPTIMUM)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["median", "trimmed-mean"])
def test_robust_rules_over_shared_directions(tmp_path, name):
    run(tmp_path, build("strategy", name, {}), rounds=30, steps=40, zeroth__draws="round")
    assert np.linalg.norm(exported(tmp_path) - OPTIMUM) < 0.5 * np.linalg.norm(OPTIMUM)  # their own is elsewhere


@pytest.mark.slow
def test_adam_on_coefficients(tmp_path):
    """Its step counts in units."""
    run(tmp_path, FedAdam(learning_rate=400.0), rounds=30, steps=40)
    assert np.linalg.norm(exported(tmp_path) - OPTIMUM) < 0.6 * np.linalg.norm(OPTIMUM)


def test_late_and_asynchronous_updates_belong_to_the_epoch_that_they_were_measured_in(tmp_path):
    more = {"round__mode": "async", "round__ask": 4, "round__buffer": 2, "zeroth__refresh": 2}
    result = run(tmp_path, rounds=12, ask=4, **{key: value for key, value in more.items() if key != "round__ask"})
    assert result.finished
    assert result.refused == ()


@pytest.mark.parametrize("options", [{}, IMPORTANCE])
def test_the_best_round_and_what_a_client_makes_of_it(tmp_path, options):
    more = {"evaluation__keep": "best", "evaluation__clients_every": 1, "evaluation__personalised_steps": 5, **options}
    result = run(tmp_path, rounds=4, **more)
    assert (tmp_path / "quadratic" / "adapter-last").is_dir()
    assert {"tuned"} <= set(result.clients)


def test_no_gradient_is_held(tmp_path):
    path = write_run(tmp_path, zeroth__size=256, local__optimizer="sgd")
    federation = assemble(load_run_file(path))
    assert federation.adapter.gradient.numel() == 0
    assert federation.trainer_choice == TrainerChoice(True)
    assert isinstance(federation.trainer(), BatchedZerothTrainer)
    assert federation.adapter.gradient.numel() == 0


def test_many_at_a_time_only_where_their_weights_fit(tmp_path):
    own = {"adapter": {"type": "full"}, "zeroth__size": 256, "local__optimizer": "sgd", "engine__memory_mb": 1}
    own["zeroth__estimator"] = {"name": "forward", "queries": 12}
    federation = assemble(load_run_file(write_run(tmp_path, **own)))
    assert "clients are trained one at a time: each would need its own" in federation.trainer_choice.note
    assert isinstance(federation.trainer(), ZerothTrainer)


def test_an_export_from_another_base_is_refused(tmp_path):
    path = write_run(tmp_path, zeroth__size=256, local__optimizer="sgd")
    result = api.run(load_run_file(path))
    assert (api.export(result.folder, tmp_path / "own") / "adapter_model.safetensors").is_file()
    model = tmp_path / "model" / "model.safetensors"
    tensors = load_file(model)
    name = next(name for name in tensors if name.endswith("query.weight"))
    tensors[name] = tensors[name] + 1
    save_file(tensors, model, metadata={"format": "pt"})
    result_of_lora = api.export(result.folder, tmp_path / "same")  # LoRA's own values do not depend on the base's
    assert result_of_lora.is_dir()
    other = write_run(tmp_path / "full", adapter={"type": "full"}, zeroth__size=256, local__optimizer="sgd")
    result = api.run(load_run_file(other, {"local.learning_rate": 1e-3}))
    model = tmp_path / "full" / "model" / "model.safetensors"
    tensors = load_file(model)
    tensors[name] = tensors[name] + 1
    save_file(tensors, model, metadata={"format": "pt"})
    with pytest.raises(JournalError, match="began from another model"):
        api.export(result.folder, tmp_path / "wrong")


@pytest.mark.parametrize("options", [{}, IMPORTANCE])
def test_workers_give_the_same_bits(tmp_path, options):
    alone = run(tmp_path / "alone", rounds=3, **options)
    assert run(tmp_path / "two", rounds=3, engine__workers=2, **options).adapter_hash == alone.adapter_hash


class Awayed(FedAvg):
    """c4 is asked in the first round and in the last; the others in between."""

    last = 52

    def select(self, available, count, seed):
        self.rounds = getattr(self, "rounds", 0) + 1
        names = sorted(info.client for info in available)
        return names if self.rounds in (1, self.last) else names[:-1]


def test_a_client_that_was_away_for_fifty_rounds_ends_hash_equal(tmp_path):
    """Every update was accepted, and that takes the fingerprint of the model that it started from."""
    result = run(tmp_path, Awayed(), rounds=52, steps=4)
    assert result.refused == ()
    accepted = events(tmp_path, EventKind.ACCEPTED)
    assert sum(event.client == "c4" for event in accepted) == 2
    assert len(accepted) == 50 * 4 + 2 * 5
    (back,) = [e for e in events(tmp_path, EventKind.ASKED) if e.client == "c4" and e.round == 52]
    others = [e.payload["bytes"] for e in events(tmp_path, EventKind.ASKED) if e.client != "c4" and e.round == 52]
    assert max(others) < back.payload["bytes"] < max(others) + 11 * 64 * 2  # the whole of eleven epochs at 2 bytes


def test_scalars_are_all_that_goes_up(tmp_path):
    run(tmp_path / "few", rounds=1, steps=10, codec__up="fp16")
    run(tmp_path / "many", rounds=1, steps=210, codec__up="fp16")
    sizes = [events(tmp_path / name, EventKind.ACCEPTED)[0].payload["bytes"] for name in ("few", "many")]
    assert 400 <= sizes[1] - sizes[0] <= 404


@pytest.mark.slow
def test_one_bit_a_step_and_a_majority(tmp_path):
    signs = {"zeroth__scalars": "sign", "zeroth__draws": "round", "codec__up": "sign"}
    run(tmp_path / "few", build("strategy", "sign-vote", {}), rounds=1, steps=8, **signs)
    run(tmp_path / "many", build("strategy", "sign-vote", {}), rounds=40, steps=208, **signs)
    sizes = [events(tmp_path / name, EventKind.ACCEPTED)[0].payload["bytes"] for name in ("few", "many")]
    assert 25 <= sizes[1] - sizes[0] <= 27
    assert np.linalg.norm(exported(tmp_path / "many") - OPTIMUM) < 0.6 * np.linalg.norm(OPTIMUM)


def test_a_text_model_and_an_export_that_peft_loads(tmp_path):
    path = write_run(
        tmp_path, zeroth__size=256, local__optimizer="sgd", local__learning_rate=0.01, local__steps=20, run__rounds=3
    )
    result = api.run(load_run_file(path))
    assert (result.folder / "adapter" / "adapter_model.safetensors").is_file()
    assert result.finished


def test_full_weights(tmp_path):
    path = write_run(
        tmp_path, adapter={"type": "full"}, zeroth__size=256, local__optimizer="sgd", local__learning_rate=1e-3
    )
    assert api.run(load_run_file(path)).finished


BAD = {
    "adamw": ({"local__optimizer": "adamw"}, "local.optimizer = 'adamw' contradicts the table .zeroth.*replayed"),
    "decay": ({"local__weight_decay": 0.1}, "local.weight_decay = 0.1 contradicts"),
    "bf16": ({"model__dtype": "bf16"}, "model.dtype = 'bf16' contradicts.*noise"),
    "centralised": ({"evaluation__centralised": True}, "evaluation.centralised = True contradicts"),
    "private": ({"adapter__private": ["lora_B"]}, "adapter.private"),
    "ranks": ({"devices": [{"name": "p", "clients": 3, "rank": 1}]}, 'devices.rank of class "p" contradicts'),
    "perturbation": ({"zeroth__perturbation": 0.0}, "zeroth.perturbation"),
    "too fine": ({"zeroth__resolution": 12}, "zeroth.clip = 1000 and zeroth.resolution = 12"),
    "importance of signs": (
        {"zeroth__sampling": "importance", "zeroth__scalars": "sign"},
        'zeroth.sampling = "importance" contradicts zeroth.scalars = "sign": all scalars are of one size',
    ),
    "importance of one round": (
        {"zeroth__sampling": "importance", "zeroth__refresh": 1},
        'zeroth.sampling = "importance" contradicts zeroth.refresh = 1: .* next rounds',
    ),
    "temperature of nothing": ({"zeroth__temperature": 2.0}, "zeroth.temperature = 2 means nothing with"),
    "too hot": ({"zeroth__sampling": "importance", "zeroth__temperature": 11.0}, "zeroth.temperature = 11.0"),
    "bounds of signs": (
        {"zeroth__deviations": 3.0, "zeroth__scalars": "sign"},
        "zeroth.deviations = 3 contradicts zeroth.scalars",
    ),
    "too narrow": ({"zeroth__deviations": 0.5}, "zeroth.deviations = 0.5 would move more than half"),
    "no such key": ({"zeroth__pols": 3}, "zeroth.pols"),
}


@pytest.mark.parametrize("case", BAD)
def test_contradictions_name_key_value_and_remedy(case, tmp_path):
    changes, message = BAD[case]
    path = write_run(tmp_path, **{"zeroth__size": 256, "local__optimizer": "sgd", **changes})
    with pytest.raises(ConfigError, match=message):
        load_run_file(path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"zeroth__size": 100}, "size = 100 must be a power of two"),
        ({"zeroth__pool": "hadamrd"}, "hadamrd.*is not known"),
        ({"zeroth__estimator": {"name": "two-point", "queries": 0}}, "queries = 0 must be from 1 to 64"),
        ({"strategy": {"name": "fedprox"}}, 'strategy.name = "fedprox" contradicts the table \\[zeroth\\]'),
        ({"strategy": {"name": "sign-vote"}}, 'strategy SignVote contradicts zeroth.draws = "client": it compares'),
        ({"strategy": {"name": "median"}}, 'strategy Median contradicts zeroth.draws = "client"'),
        (
            {"strategy": {"name": "flower:Krum", "num_malicious_nodes": 1}},
            "strategy flower:Krum contradicts zeroth.draws",
        ),
        (
            {"strategy": {"name": "trimmed-mean"}, "zeroth__draws": "round", "round__late": "fold"},
            'strategy TrimmedMean contradicts round.late = "fold"',
        ),
        (
            {"strategy": {"name": "sign-vote"}, "zeroth__draws": "round", "round__mode": "async"},
            'strategy.name = "sign-vote" cannot be run with round.mode = "async"',
        ),
        (
            {"zeroth__sampling": "importance", "zeroth__pool": "independent", "zeroth__size": 2**16 + 16},
            'zeroth.sampling = "importance" contradicts zeroth.size = 65552',
        ),
    ],
)
def test_what_plugins_refuse_is_said_before_anything_is_loaded(changes, message, tmp_path):
    path = write_run(tmp_path, **{"zeroth__size": 256, "local__optimizer": "sgd", **changes})
    with pytest.raises((PluginError, ConfigError), match=message):
        api.run(load_run_file(path))
