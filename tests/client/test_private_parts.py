"""Tensors that stay on their client: nobody else sees them, they survive a kill, and whoever loses them says so."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import torch
from peft import PeftModel
from quadratic import CENTRES, CLIENTS, D, committed, run_quadratic
from safetensors.torch import load_file
from tiny import Stop, run_tiny, stop_at, tiny_arguments

from fedpeft import api, simulate
from fedpeft.client import ClientStore
from fedpeft.errors import ConfigError, JournalError, ModelError
from fedpeft.journal import EventKind, Journal
from fedpeft.strategies import FFA, FedAdam, FedAvg, FedSA

HEAD = {"adapter__private": ["head"]}


def own(result, client, number):
    return ClientStore(result.folder / "clients" / client, D // 2).memory(number)["private"]


def test_each_client_ends_at_its_own_optimum_and_the_shared_part_is_averaged(tmp_path):
    result = run_quadratic(tmp_path, FedAvg(), **HEAD, rounds=10)
    assert committed(tmp_path)["theta"].shape == (D - D // 2,), "the coordinator has the shared part and nothing else"
    for client in range(CLIENTS):
        fast = CENTRES[client, : D // 2]  # 200 steps of rate 0.1 with curvatures of 0.2 and more
        np.testing.assert_allclose(own(result, f"c{client}", 10), fast, atol=0.1)


@pytest.mark.slow
def test_no_frame_and_no_journal_holds_a_private_value(tmp_path):
    result = run_quadratic(tmp_path, FedAvg(), **HEAD, rounds=3)
    values = {own(result, f"c{k}", 3)[j].tobytes() for k in range(CLIENTS) for j in range(D // 2)}
    files = [path for path in result.folder.rglob("*") if path.is_file() and "clients" not in path.parts]
    assert files
    for path in files:
        content = path.read_bytes()
        assert not any(value in content for value in values), path


@pytest.mark.slow
@pytest.mark.parametrize("strategy", [FedSA, FedAdam], ids=["fedsa", "by the run file"])
@pytest.mark.parametrize(("kind", "count"), [(EventKind.ACCEPTED, 5), (EventKind.COMMITTED, 3)])
def test_interrupted_and_resumed_is_as_uninterrupted(tmp_path, kind, count, strategy):
    options = {} if strategy is FedSA else {"adapter__private": ["lora_B"]}
    whole = run_tiny(tmp_path / "whole", strategy=strategy(), **options)
    with pytest.raises(Stop):
        run_tiny(tmp_path / "parts", strategy=strategy(), observers=[stop_at(kind, count)], **options)
    parts = run_tiny(tmp_path / "parts", strategy=strategy(), resume=True, **options)
    assert parts.adapter_hash == whole.adapter_hash
    for folder in sorted((whole.folder / "clients").iterdir()):
        last = max(folder.glob("memory-*"), default=None)
        if last is not None:
            assert (parts.folder / "clients" / folder.name / last.name).read_bytes() == last.read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize("strategy", [FedSA, FFA])
def test_how_it_is_run_does_not_matter(tmp_path, strategy):
    hashes = {
        run_tiny(tmp_path / str(number), strategy=strategy(), **options).adapter_hash
        for number, options in enumerate([{}, {"engine__workers": 2}, {"engine__lookahead": 1}])
    }
    assert len(hashes) == 1


@pytest.mark.slow
def test_whoever_loses_its_own_tensors_begins_anew_and_the_journal_says_so(tmp_path):
    with pytest.raises(Stop):
        run_quadratic(tmp_path, FedAvg(), **HEAD, rounds=4, observers=[stop_at(EventKind.COMMITTED, 3)])
    shutil.rmtree(tmp_path / "quadratic" / "clients" / "c2")
    result = run_quadratic(tmp_path, FedAvg(), **HEAD, rounds=4, resume=True)
    with Journal.read(result.folder) as journal:
        lost = [(e.round, e.client) for e in journal.events(EventKind.ACCEPTED) if e.payload.get("memory_lost")]
    assert lost == [(3, "c2")]


@pytest.mark.slow
@pytest.mark.parametrize("codec", ["int8", "fp32"])
def test_whoever_loses_its_residual_goes_on_and_the_journal_says_so(tmp_path, codec):
    options = {"rounds": 4, "codec__up": codec}
    with pytest.raises(Stop):
        run_quadratic(tmp_path, FedAvg(), **options, observers=[stop_at(EventKind.COMMITTED, 3)])
    shutil.rmtree(tmp_path / "quadratic" / "clients" / "c2")
    result = run_quadratic(tmp_path, FedAvg(), **options, resume=True)
    with Journal.read(result.folder) as journal:
        lost = [(e.round, e.client) for e in journal.events(EventKind.ACCEPTED) if e.payload.get("residual_lost")]
    assert lost == [(3, "c2")]


@pytest.mark.slow
def test_only_clients_evaluate_and_each_with_its_own(tmp_path):
    plans = []
    result = run_quadratic(tmp_path, FedAvg(), **HEAD, rounds=10)
    with Journal.read(result.folder) as journal:
        plans = [e.payload["plan"] for e in journal.events(EventKind.RUN_STARTED)]
        losses = [e.payload["loss"] for e in journal.events(EventKind.CLIENT_EVALUATED) if e.round == 10]
        assert list(journal.events(EventKind.EVALUATED)) == []
    assert any("3 of 6 trainable parameters (head) stay on each client" in note for note in plans[0]["notes"])
    alone = run_quadratic(tmp_path / "shared", FedAvg(), rounds=10)
    with Journal.read(alone.folder) as journal:
        shared = [e.payload["loss"] for e in journal.events(EventKind.CLIENT_EVALUATED) if e.round == 10]
    assert len(losses) == len(shared) == CLIENTS
    assert sum(losses) < 0.7 * sum(shared), "the head is each client's own, so each fits better"


def test_a_private_part_that_the_adapter_lacks_is_refused_before_the_run(tmp_path):
    with pytest.raises(ModelError, match='no trained tensor has "lora_B"'):
        run_quadratic(tmp_path, FedSA())


def test_ranks_and_frozen_factors_contradict_each_other(tmp_path):
    devices = [{"name": "small", "clients": 5, "rank": 1}]
    with pytest.raises(ConfigError, match=r'devices\.rank of class "small" contradicts frozen tensors'):
        run_tiny(tmp_path, strategy=FFA(), devices=devices)


# --- what comes out --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def personal(tmp_path_factory):
    """A finished FedSA run of the tiny federation, and the arguments that made it."""
    folder = tmp_path_factory.mktemp("personal")
    return simulate(**tiny_arguments(folder), strategy=FedSA()), folder


@pytest.mark.slow
def test_the_export_says_that_it_is_the_shared_part_only(personal):
    result, _ = personal
    text = (result.folder / "adapter" / "README.md").read_text()
    assert "The tensors with `lora_B` in their names stayed on each client" in text
    assert "fedpeft export tiny --client NAME" in text
    tensors = load_file(result.folder / "adapter" / "adapter_model.safetensors")
    assert all(not value.any() for name, value in tensors.items() if "lora_B" in name)
    assert all(value.any() for name, value in tensors.items() if "lora_A" in name)
    config = json.loads((result.folder / "adapter" / "adapter_config.json").read_text())
    model = tiny_arguments(result.folder)["model"]
    x = torch.randn(3, 16)
    loaded = PeftModel.from_pretrained(model, result.folder / "adapter")
    assert loaded(x).shape == (3, 2)
    assert config["r"] == 2


@pytest.mark.slow
def test_ffa_exports_a_plain_adapter_whose_first_factor_was_never_trained(tmp_path):
    result = run_tiny(tmp_path / "ffa", strategy=FFA())
    untrained = run_tiny(tmp_path / "none", strategy=FFA(), rounds=1, local__learning_rate=1e-30)
    tensors, initial = (load_file(r.folder / "adapter" / "adapter_model.safetensors") for r in (result, untrained))
    assert tensors.keys() == initial.keys()
    for name, value in tensors.items():
        assert torch.equal(value, initial[name]) == ("lora_A" in name), name


@pytest.mark.slow
def test_of_a_run_without_a_run_file_nothing_can_be_built_again(personal):
    result, _ = personal
    with pytest.raises(ConfigError, match="was made of Python objects") as error:
        api.export(result.folder, result.folder / "own", client="c00")
    assert str(result.folder / "adapter") in error.value.remedy


@pytest.mark.slow
def test_a_clients_own_adapter_is_the_shared_part_with_its_own(tmp_path):
    from tiny_text import write_run

    from fedpeft.config import load_run_file

    config = load_run_file(write_run(tmp_path, strategy={"name": "fedsa"}))
    result = api.run(config)
    adapters = {}
    with Journal.read(result.folder) as journal:
        asked = {e.client for e in journal.events(EventKind.ACCEPTED)}
    for client in sorted(asked)[:2]:
        path = api.export(result.folder, tmp_path / client, client=client)
        adapters[client] = load_file(path / "adapter_model.safetensors")
        assert "stayed on each client" not in (path / "README.md").read_text()
    one, other = adapters.values()
    for name in one:
        assert torch.equal(one[name], other[name]) == ("lora_A" in name), name
        assert one[name].any()
    with pytest.raises(JournalError, match="has no client nobody") as error:
        api.export(result.folder, tmp_path / "nobody", client="nobody")
    assert sorted(asked)[0] in error.value.allowed
    shutil.rmtree(result.folder / "clients" / sorted(asked)[0])
    with pytest.raises(JournalError, match="holds no private tensors of round"):
        api.export(result.folder, tmp_path / "lost", client=sorted(asked)[0])
