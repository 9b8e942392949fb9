"""What torch's own layers compute past: adapters inside an encoder of torch's are felt, or refused."""

import peft
import pytest
import torch

from fedpeft.adapters import BaseModel, FlatAdapter, build_adapter
from fedpeft.adapters.architecture import architecture
from fedpeft.config import AdapterTable
from fedpeft.errors import ModelError
from fedpeft.registry import load


class Reader(torch.nn.Module):
    def __init__(self):
        super().__init__()
        layer = torch.nn.TransformerEncoderLayer(16, 2, 32, batch_first=True)
        self.encoder = torch.nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.head = torch.nn.Linear(16, 2)

    def forward(self, x):
        return self.head(self.encoder(x).mean(1))


@pytest.fixture(autouse=True)
def _torchs_own_setting():
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(True)
    yield
    torch.backends.mha.set_fastpath_enabled(before)


def reader():
    torch.manual_seed(0)
    return Reader().requires_grad_(False).eval()


def untouched(adapter):
    """Tensors that no gradient reaches, of a θ away from its start."""
    adapter.theta += 0.1 * torch.randn_like(adapter.theta)
    adapter.gradient.zero_()
    adapter.model(torch.randn(3, 5, 16)).square().sum().backward()
    return [name for name, parameter in adapter.parameters.items() if not parameter.grad.abs().max()]


@pytest.mark.parametrize("kind", ["lora", "loha", "vera", "ia3", "ssf", "bitfit", "full"])
def test_every_tensor_inside_an_encoder_is_trained(kind):
    base = BaseModel(reader(), None, "own", "own", form=architecture("own"))
    targets = {
        "ia3": {"target_modules": ["linear1", "linear2"], "feedforward_modules": ["linear2"]},
        "lora": {"rank": 2},
    }.get(kind, {})
    adapter = load("adapter", kind)(base, AdapterTable(type=kind, **targets), classifier=False, seed=1)
    assert any(name.startswith("encoder.layers.1") for name in adapter.parameters)
    assert untouched(adapter) == []


def test_the_output_layer_of_an_attention_is_left_out_of_all_and_refused_by_name():
    adapter = build_adapter(reader(), peft.LoraConfig(r=2, target_modules="all-linear"), seed=1)
    assert not any("out_proj" in name for name in adapter.parameters)
    excluded = peft.LoraConfig(r=2, target_modules="all-linear", exclude_modules=["linear1"])
    names = build_adapter(reader(), excluded, seed=1).parameters
    assert not any("out_proj" in name or "linear1" in name for name in names)
    with pytest.raises(ModelError, match=r"encoder\.layers\.0\.self_attn\.out_proj would train nothing") as caught:
        build_adapter(reader(), peft.LoraConfig(r=2, target_modules=["out_proj", "head"]), seed=1)
    assert caught.value.code == "adapter.unreached"


def test_an_adapter_on_the_attention_as_a_whole_is_felt():
    adapter = build_adapter(reader(), peft.LoraConfig(r=2, target_modules=["self_attn"]), seed=1)
    assert untouched(adapter) == []


def test_models_without_such_layers_leave_torch_alone():
    FlatAdapter(torch.nn.Linear(2, 2))
    assert torch.backends.mha.get_fastpath_enabled()
