"""θ is one vector, and the model's parameters are views into it, whatever happens to either."""

import numpy as np
import peft
import pytest
import torch

from fedpeft.adapters import FlatAdapter, build_adapter
from fedpeft.adapters.flat import canonical_name
from fedpeft.errors import ModelError


def network():
    torch.manual_seed(1)
    return torch.nn.Sequential(torch.nn.Linear(6, 5), torch.nn.Tanh(), torch.nn.Linear(5, 4))


@pytest.fixture
def adapter():
    return build_adapter(network(), peft.LoraConfig(r=2, target_modules=["0", "2"]), seed=4)


def assert_views(adapter):
    start, end = adapter.theta.data_ptr(), adapter.theta.data_ptr() + adapter.theta.nbytes
    gradients = adapter.gradient.data_ptr(), adapter.gradient.data_ptr() + adapter.gradient.nbytes
    trainable = [parameter for parameter in adapter.model.parameters() if parameter.requires_grad]
    assert trainable
    for parameter in trainable:
        assert start <= parameter.data_ptr() < end
        assert parameter.grad is not None
        assert gradients[0] <= parameter.grad.data_ptr() < gradients[1]


def test_tensors_lie_in_name_order_without_gaps(adapter):
    names = [tensor.name for tensor in adapter.layout.tensors]
    assert names == ["0.lora_A.weight", "0.lora_B.weight", "2.lora_A.weight", "2.lora_B.weight"]
    assert [tensor.shape for tensor in adapter.layout.tensors] == [(2, 6), (5, 2), (2, 5), (4, 2)]
    assert [tensor.offset for tensor in adapter.layout.tensors] == [0, 12, 22, 32]
    assert adapter.layout.size == 40


def test_what_is_set_is_what_the_model_computes_with(adapter):
    theta = np.linspace(-1, 1, 40, dtype=np.float32)
    adapter.set(theta)
    assert np.array_equal(adapter.get(), theta)
    x = torch.randn(3, 6)
    a0, b0 = (torch.from_numpy(theta[i:j]).view(shape) for i, j, shape in ((0, 12, (2, 6)), (12, 22, (5, 2))))
    base = network()
    hidden = torch.tanh(base[0](x) + 8 / 2 * x @ a0.T @ b0.T)  # peft's default alpha is 8
    a2, b2 = (torch.from_numpy(theta[i:j]).view(shape) for i, j, shape in ((22, 32, (2, 5)), (32, 40, (4, 2))))
    torch.testing.assert_close(adapter.model(x), base[2](hidden) + 8 / 2 * hidden @ a2.T @ b2.T)


def test_get_is_a_copy_and_set_takes_one(adapter):
    before = adapter.get()
    given = before + 1
    adapter.set(given)
    given[:] = 7
    adapter.get()[:] = 9
    assert np.array_equal(adapter.get(), before + 1)


@pytest.mark.parametrize("shape", [(39,), (40, 1), ()])
def test_another_shape_is_refused(adapter, shape):
    with pytest.raises(ValueError, match=r"\(40,\)"):
        adapter.set(np.zeros(shape, np.float32))


def test_views_stay_views_through_training_and_moving_theta(adapter):
    assert_views(adapter)
    optimizer = torch.optim.AdamW([adapter.theta], lr=0.1)
    for _ in range(3):
        adapter.gradient.zero_()
        adapter.model(torch.randn(4, 6)).square().mean().backward()
        adapter.theta.grad = adapter.gradient
        before = adapter.get()
        optimizer.step()
        assert not np.array_equal(adapter.get(), before)
        assert_views(adapter)
    adapter.set(np.zeros(40, np.float32))
    assert_views(adapter)


def test_the_base_stays_frozen_and_in_eval_mode(adapter):
    trainable = {name for name, parameter in adapter.model.named_parameters() if parameter.requires_grad}
    assert all("lora_" in name for name in trainable)
    assert not adapter.model.training


@pytest.mark.parametrize(
    ("name", "canonical"),
    [
        ("base_model.model.a.query.lora_A.default.weight", "a.query.lora_A.weight"),
        ("base_model.model.a.value.ia3_l.default", "a.value.ia3_l"),
        ("base_model.model.head.modules_to_save.default.dense.bias", "head.dense.bias"),
        ("base_model.model.default.defaults.lora_B.default.weight", "default.defaults.lora_B.weight"),
        ("plain.weight", "plain.weight"),
    ],
)
def test_canonical_names_shed_the_wrapper_only(name, canonical):
    assert canonical_name(name) == canonical


def test_fully_trained_modules_keep_their_own_name():
    config = peft.LoraConfig(r=2, target_modules=["0"], modules_to_save=["2"])
    adapter = build_adapter(network(), config, seed=4)
    assert [tensor.name for tensor in adapter.layout.tensors][2:] == ["2.bias", "2.weight"]
    assert_views(adapter)


def test_two_tensors_of_one_name_are_refused():
    model = network()
    model.default = torch.nn.Linear(4, 4, bias=False)
    model.weight = torch.nn.Parameter(torch.zeros(2))
    wrapped = peft.get_peft_model(model, peft.LoraConfig(r=2, target_modules=["0"])).requires_grad_(True)
    with pytest.raises(ModelError, match='"weight"') as caught:
        FlatAdapter(wrapped)
    assert caught.value.code == "adapter.name-clash"


def test_tensors_of_a_module_of_ones_own_keep_their_names():
    """Though it calls its parts as peft does, for the exported file is loaded by these names."""
    model = torch.nn.Module()
    model.base_model = torch.nn.Linear(2, 2, bias=False)
    model.default = torch.nn.Linear(2, 2, bias=False)
    model.weight = torch.nn.Parameter(torch.zeros(2))
    assert set(FlatAdapter(model).parameters) == {"base_model.weight", "default.weight", "weight"}


def test_an_adapter_that_trains_nothing_is_refused():
    model = network()
    model.requires_grad_(False)
    with pytest.raises(ModelError, match="trains nothing") as caught:
        FlatAdapter(model)
    assert caught.value.code == "adapter.empty"
    assert caught.value.remedy


@pytest.mark.parametrize(
    "config",
    [
        peft.LoraConfig(r=2, target_modules=["0"], lora_dropout=0.5),
        peft.LoHaConfig(r=2, target_modules=["0"], module_dropout=0.5),
    ],
    ids=["lora", "loha"],
)
def test_only_the_adapters_dropout_is_switched(config):
    torch.manual_seed(2)
    model = torch.nn.Sequential(torch.nn.Linear(6, 4), torch.nn.Dropout(0.5), torch.nn.Linear(4, 4))
    adapter = build_adapter(model, config, seed=4)
    adapter.set(np.random.default_rng(0).normal(0, 0.3, adapter.layout.size).astype(np.float32))
    x = torch.randn(2, 6)
    outputs = {}
    for mode in (True, False):
        adapter.train(mode)
        outputs[mode] = [adapter.model(x) for _ in range(8)]
    assert any(not torch.equal(outputs[True][0], other) for other in outputs[True])
    assert all(torch.equal(outputs[False][0], other) for other in outputs[False])
    frozen = [module for name, module in adapter.model.named_modules() if name.endswith("model.1")]
    assert [module.training for module in frozen] == [False]
