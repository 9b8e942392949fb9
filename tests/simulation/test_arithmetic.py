"""How a run computes is settled once, said in the plan, and kept for a resumed run."""

from __future__ import annotations

import pytest
import torch
from tiny import run_tiny
from tiny_text import write_run

from fedpeft import api
from fedpeft.config import load_run_file
from fedpeft.errors import ConfigError, PluginError
from fedpeft.journal import EventKind, Journal
from fedpeft.kernels import held_product, uninstall
from fedpeft.kernels.native import Native
from fedpeft.kernels.onednn import OneDnn
from fedpeft.registry import names
from fedpeft.simulation.arithmetic import settle_arithmetic

PACKED = OneDnn().available(torch.zeros(1)) == ""


def network(width=16):
    return torch.nn.Sequential(torch.nn.Linear(width, width), torch.nn.ReLU(), torch.nn.Linear(width, 2))


def config(folder, **engine):
    return load_run_file(write_run(folder, engine=engine))


def test_auto_becomes_the_name_of_what_was_chosen(tmp_path):
    model = network(256).requires_grad_(False)
    settled, words = settle_arithmetic(config(tmp_path), model)
    assert settled.engine.kernel in names("kernel")
    assert settled.engine.kernel in words
    assert "float32" in words
    assert settled.model_copy(update={"engine": config(tmp_path).engine}) == config(tmp_path)
    assert held_product(model[0]) is not None
    uninstall(model)


@pytest.mark.skipif(not PACKED, reason="no packed kernel here")
def test_packed_matrices_are_counted(tmp_path):
    model = network(256).requires_grad_(False)
    settled, words = settle_arithmetic(config(tmp_path, kernel="onednn"), model)
    assert settled.engine.kernel == "onednn"
    assert held_product(model[0]).bytes == 2 * 4 * 256 * 256
    assert words.endswith("1 MB of packed matrices")


def test_a_model_without_frozen_matrices(tmp_path):
    model = torch.nn.Sequential(torch.nn.Linear(4, 2))
    settled, words = settle_arithmetic(config(tmp_path), model)
    assert settled.engine.kernel == "torch"
    assert "torch's own products" in words
    assert "packed" not in words


def test_threads_are_those_of_the_run_file(tmp_path):
    before = torch.get_num_threads()
    try:
        settle_arithmetic(config(tmp_path, threads=2), network())
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("start", ["run", "validate"])
def test_an_unknown_kernel_is_one_clear_error_before_anything_is_written(tmp_path, start):
    wrong = config(tmp_path, kernel="nonsense")
    with pytest.raises(PluginError) as caught:
        getattr(api, start)(wrong)
    assert 'kernel "nonsense" is not known' in caught.value.message
    assert caught.value.code == "plugin.unknown-kernel"
    assert "torch" in caught.value.allowed
    assert caught.value.remedy
    assert not list(tmp_path.glob("**/journal.sqlite"))


def test_a_kernel_that_this_machine_lacks_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(OneDnn, "available", lambda self, weight: "this torch is built without oneDNN")
    model = network(256).requires_grad_(False)
    with pytest.raises(ConfigError, match="built without oneDNN"):
        settle_arithmetic(config(tmp_path, kernel="onednn"), model)
    settled, words = settle_arithmetic(config(tmp_path), model)
    assert settled.engine.kernel == "torch"
    assert "onednn is left out: this torch is built without oneDNN" in words


def test_the_plan_names_kernel_and_trainer_and_the_journal_keeps_both(tmp_path):
    plans = []
    run = api.run(config(tmp_path), on_plan=plans.append)
    (plan,) = plans
    assert "torch" in plan.arithmetic
    assert plan.trainer == "together, up to 4096 rows and 300 MB a pass"
    assert plan.notes == ()
    with Journal.read(run.folder) as journal:
        (started,) = journal.events(EventKind.RUN_STARTED)
        assert started.payload["plan"]["arithmetic"] == plan.arithmetic
        assert 'kernel = "torch"' in journal.config_toml
    assert 'kernel = "torch"' in (run.folder / "run.toml").read_text(encoding="utf-8")


def test_the_users_model_has_its_own_layers_back_after_a_run(tmp_path):
    from tiny import tiny_arguments

    arguments = tiny_arguments(tmp_path, rounds=1)
    api.simulate(**arguments)
    assert not any("forward" in vars(module) for module in arguments["model"].modules())
    api.simulate(**(arguments | {"name": "again"}))


def test_torch_s_own_kernel_can_be_asked_for(tmp_path):
    auto, plain = (run_tiny(tmp_path / name, engine__kernel=name, rounds=2) for name in ("auto", "torch"))
    assert auto.adapter_hash == plain.adapter_hash  # so small a model is never packed
    assert type(Native().hold(torch.zeros(2, 2), None)).bytes == 0
