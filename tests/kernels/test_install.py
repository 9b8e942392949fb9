"""A kernel goes under the frozen layers, and only there; taken away, the model is what it was."""

from __future__ import annotations

import copy

import peft
import pytest
import torch
from tiny_models import Classify, encoder, jobs

from fedpeft.adapters import build_adapter, export_merged
from fedpeft.kernels import held_product, install, uninstall
from fedpeft.kernels.install import _PRODUCT, frozen_matrix
from fedpeft.registry import load, names


def held(model):
    return {name for name, module in model.named_modules() if _PRODUCT in vars(module)}


def kernel(name):
    found = load("kernel", name)()
    if reason := found.available(torch.zeros(2, 2)):
        pytest.skip(reason)
    return found


def logits(model, kind="bert"):
    task = Classify()
    (job,) = jobs(kind, None, 1)
    _, inputs, _ = task.batch(job.data, range(4))
    with torch.no_grad():
        return model(**inputs).last_hidden_state


each = pytest.mark.parametrize("name", names("kernel"))


@each
@pytest.mark.parametrize("kind", ["bert", "vit", "gpt2", "llama"])
def test_the_model_computes_as_before(name, kind):
    model = encoder(kind)
    before, state = logits(model, kind), copy.deepcopy(model.state_dict())
    install(model, kernel(name))
    matrices = {n for n, module in model.named_modules() if type(module).__name__ in ("Linear", "Conv1D")}
    assert held(model) == matrices != set()
    torch.testing.assert_close(logits(model, kind), before, rtol=1e-4, atol=1e-5)
    uninstall(model)
    assert held(model) == set()
    assert not any("forward" in vars(module) for module in model.modules())
    assert torch.equal(logits(model, kind), before)
    assert all(torch.equal(value, state[key]) for key, value in model.state_dict().items())


@each
def test_bytes_are_those_of_all_matrices_and_a_second_install_replaces_the_first(name):
    model = torch.nn.Sequential(torch.nn.Linear(8, 4), torch.nn.Linear(4, 2)).requires_grad_(False)
    total = install(model, kernel(name))
    assert total == sum(held_product(layer).bytes for layer in model)
    first = held_product(model[0])
    assert install(model, kernel(name)) == total
    assert held_product(model[0]) is not first


@each
def test_what_is_trained_is_left_alone(name):
    model = encoder("bert", head=True)
    config = peft.LoraConfig(r=2, target_modules=["query"], modules_to_save=["classifier"], task_type="SEQ_CLS")
    adapter = build_adapter(model, config, seed=1)
    install(adapter.model, kernel(name))
    found = held(adapter.model)
    assert any(path.endswith("query.base_layer") for path in found)
    assert not any("lora_" in path or "modules_to_save" in path for path in found)


@each
def test_a_trained_bias_counts_as_it_is_at_the_moment(name):
    layer = torch.nn.Linear(8, 4)
    layer.weight.requires_grad_(False)
    model = torch.nn.Sequential(layer)
    x = torch.randn(3, 8, generator=torch.Generator().manual_seed(1))
    install(model, kernel(name))
    assert held(model) == {"0"}
    assert held_product(layer) is None  # its bias is no part of it
    for value in (0.5, -2.0):
        layer.bias.data.fill_(value)
        layer.bias.grad = None
        y = model(x)
        torch.testing.assert_close(y, x @ layer.weight.T + value)
        y.sum().backward()
        torch.testing.assert_close(layer.bias.grad, torch.full((4,), 3.0))


def test_without_a_kernel_torch_holds_the_matrix():
    layer = torch.nn.Linear(8, 4).requires_grad_(False)
    assert held_product(layer).bytes == 0
    assert held_product(torch.nn.Linear(8, 4)) is None
    assert held_product(torch.nn.ReLU()) is None


@each
def test_a_layer_with_a_forward_pass_of_its_own_is_somebody_elses(name):
    model = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.Linear(4, 4)).requires_grad_(False)
    own = model[0].forward = lambda x: x + 1
    install(model, kernel(name))
    assert held(model) == {"1"}
    assert held_product(model[0]) is None
    uninstall(model)
    assert model[0].forward is own


class Own(torch.nn.Linear):
    """A layer that does something else with its weight, as quantised ones do."""

    def forward(self, x):
        return super().forward(x) + 1


def test_subclasses_and_integers_are_no_frozen_matrices():
    assert frozen_matrix(Own(3, 2).requires_grad_(False)) is None
    assert frozen_matrix(torch.nn.Linear(3, 2)) is None
    assert frozen_matrix(torch.nn.Embedding(3, 2).requires_grad_(False)) is None
    layer = torch.nn.Linear(3, 2).requires_grad_(False)
    layer.weight = torch.nn.Parameter(torch.ones(2, 3, dtype=torch.int8), requires_grad=False)
    assert frozen_matrix(layer) is None
    plain = torch.nn.Linear(3, 2).requires_grad_(False)
    assert torch.equal(frozen_matrix(plain), plain.weight)


def test_a_conv1d_is_read_the_other_way_round():
    model = encoder("gpt2")
    layer = model.h[0].attn.c_attn
    assert frozen_matrix(layer).shape == (96, 32)
    assert torch.equal(frozen_matrix(layer), layer.weight.t())


class Choosy:
    """Holds square matrices only."""

    def available(self, weight):
        return "" if weight.shape[0] == weight.shape[1] else "it is not square"

    def hold(self, weight, bias):
        return load("kernel", "torch")().hold(weight, bias)


def test_a_matrix_that_the_kernel_cannot_hold_keeps_its_own_product():
    model = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.Linear(4, 2)).requires_grad_(False)
    install(model, Choosy())
    assert held(model) == {"0"}


@each
def test_the_merged_model_is_written_from_the_true_weights(name, tmp_path):
    from transformers import AutoModel

    adapter = build_adapter(encoder("bert"), peft.LoraConfig(r=4, target_modules=["query", "value"]), seed=1)
    install(adapter.model, kernel(name))
    adapter.theta.normal_(0, 0.2, generator=torch.Generator().manual_seed(3))
    expected = logits(adapter.model)
    export_merged(adapter, tmp_path / "merged", None)
    merged = AutoModel.from_pretrained(str(tmp_path / "merged")).eval()
    torch.testing.assert_close(logits(merged), expected, rtol=1e-4, atol=1e-5)
    plain = logits(encoder("bert"))
    assert not torch.allclose(expected, plain, rtol=1e-2, atol=1e-2)


@each
def test_a_copy_of_the_model_has_a_kernel_that_works(name):
    model = encoder("bert")
    install(model, kernel(name))
    twin = copy.deepcopy(model)
    assert torch.equal(logits(twin), logits(model))
