"""An adapter in two parts, and an adapter of which some is frozen: there and back, and what is refused."""

import numpy as np
import peft
import pytest
import torch

from fedpeft.adapters import build_adapter
from fedpeft.adapters.freeze import freeze
from fedpeft.adapters.sharing import Sharing
from fedpeft.errors import ModelError
from fedpeft.layouts import make_layout

LAYOUT = make_layout(
    {
        "a.lora_A.weight": (2, 3),
        "a.lora_B.weight": (4, 2),
        "b.lora_A.weight": (2, 5),
        "b.lora_B.weight": (3, 2),
        "head.bias": (3,),
        "head.weight": (3, 2),
    }
)
THETA = np.arange(LAYOUT.size, dtype=np.float32)


def tensor(theta, layout, name):
    (found,) = (t for t in layout.tensors if t.name == name)
    return theta[found.offset : found.offset + found.size].tolist()


@pytest.mark.parametrize("private", [["lora_B"], ["head"], ["lora_B", "head"], ["a", "b.lora_A"], ["head.bias"]])
def test_the_parts_make_the_whole_again(private):
    sharing = Sharing(LAYOUT, private)
    shared, own = sharing.shared_of(THETA), sharing.private_of(THETA)
    assert (shared.size, own.size) == (sharing.shared.size, sharing.private.size)
    assert shared.size + own.size == LAYOUT.size
    np.testing.assert_array_equal(sharing.join(shared, own), THETA)
    for layout, part in ((sharing.shared, shared), (sharing.private, own)):
        for one in layout.tensors:
            assert tensor(part, layout, one.name) == tensor(THETA, LAYOUT, one.name)
    np.testing.assert_array_equal(sharing.private_of(sharing.spread(shared)), np.zeros(own.size))


def test_what_is_private_is_not_in_the_shared_layout():
    sharing = Sharing(LAYOUT, ["lora_B"])
    assert [t.name for t in sharing.private.tensors] == ["a.lora_B.weight", "b.lora_B.weight"]
    assert all("lora_B" not in t.name for t in sharing.shared.tensors)
    assert sharing.shared.digest != LAYOUT.digest


def test_without_private_tensors_nothing_is_copied():
    sharing = Sharing(LAYOUT)
    assert sharing.is_whole
    assert sharing.shared is LAYOUT
    assert sharing.join(THETA, np.empty(0, dtype=np.float32)) is THETA
    assert sharing.shared_of(THETA) is sharing.spread(THETA) is THETA
    assert sharing.private_of(THETA).shape == (0,)


@pytest.mark.parametrize("part", ["lora", "", "lora_C", "weigh", "A"])
def test_a_part_that_no_tensor_has_is_refused(part):
    with pytest.raises(ModelError, match=r"no trained tensor has .* as adapter\.private or the strategy asks") as error:
        Sharing(LAYOUT, [part])
    assert "lora_A" in error.value.allowed


def test_a_misspelt_part_gets_a_proposal():
    with pytest.raises(ModelError) as error:
        Sharing(LAYOUT, ["lora_b"])
    assert "lora_B" in error.value.remedy


def test_something_must_be_shared():
    with pytest.raises(ModelError, match="leaves nothing to share") as error:
        Sharing(LAYOUT, ["weight", "bias"])
    assert error.value.code == "adapter.nothing-shared"


# --- frozen ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def adapter():
    model = torch.nn.Sequential(torch.nn.Linear(8, 8), torch.nn.Tanh(), torch.nn.Linear(8, 3))
    return build_adapter(model, peft.LoraConfig(r=2, target_modules=["0", "2"]), seed=4)


def test_a_frozen_factor_keeps_its_value_and_is_not_in_theta(adapter):
    before = {name: parameter.detach().clone() for name, parameter in adapter.parameters.items()}
    less = freeze(adapter, ["lora_A"])
    assert [t.name for t in less.layout.tensors] == ["0.lora_B.weight", "2.lora_B.weight"]
    less.set(np.ones(less.layout.size, dtype=np.float32))
    for name, parameter in less.model.named_parameters():
        if "lora_A" in name:
            assert not parameter.requires_grad
            assert parameter.grad is None
            (was,) = (value for key, value in before.items() if key.split(".")[0] == name.split(".")[2] and "_A" in key)
            assert torch.equal(parameter, was)
            assert parameter.abs().sum() > 0
        elif "lora_B" in name:
            assert torch.equal(parameter, torch.ones_like(parameter))


def test_gradients_of_the_rest_still_arrive_in_one_vector(adapter):
    less = freeze(adapter, ["lora_A"])
    less.model(torch.randn(4, 8)).square().sum().backward()
    assert less.gradient.shape == (less.layout.size,)
    assert less.gradient.abs().sum() > 0


def test_freezing_nothing_changes_nothing(adapter):
    assert freeze(adapter, []) is adapter


def test_something_must_be_left_to_train(adapter):
    with pytest.raises(ModelError, match="leaves nothing to train"):
        freeze(adapter, ["lora_A", "lora_B"])


def test_a_frozen_part_that_no_tensor_has_is_refused(adapter):
    with pytest.raises(ModelError, match=r"no trained tensor has .* as adapter\.frozen or the strategy asks"):
        freeze(adapter, ["lora_X"])
