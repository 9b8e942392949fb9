"""Each layer's scaling, and that what a client of a smaller rank adds to a weight is scaling · B A of its
components."""

import numpy as np
import peft
import pytest
import torch

from fedpeft.adapters.build import build_own
from fedpeft.adapters.ranks import truncate
from fedpeft.adapters.scalings import lora_scalings
from fedpeft.aggregation.lora import lora_layers


def own(**config):
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(12, 9), torch.nn.Conv1d(9, 5, 3), torch.nn.Linear(5, 7))
    return build_own(model, peft.LoraConfig(target_modules=["0", "1", "2"], **config), seed=1)


@pytest.mark.parametrize(
    ("config", "scalings"),
    [
        ({"r": 4, "lora_alpha": 8}, {"0": 2.0, "1": 2.0, "2": 2.0}),
        ({"r": 4, "lora_alpha": 8, "use_rslora": True}, {"0": 4.0, "1": 4.0, "2": 4.0}),
        (
            {"r": 4, "lora_alpha": 8, "rank_pattern": {"0": 2}, "alpha_pattern": {"2": 2}},
            {"0": 4.0, "1": 2.0, "2": 0.5},
        ),
    ],
)
@pytest.mark.parametrize("rank", [1, 3, 99])
def test_the_weight_moves_by_scaling_times_the_product(config, scalings, rank):
    adapter = own(**config)
    assert lora_scalings(adapter) == scalings
    layers = lora_layers(adapter.layout, lora_scalings(adapter))
    assert [layer.name for layer in layers] == ["0", "1", "2"]
    theta = np.random.default_rng(2).standard_normal(adapter.layout.size).astype(np.float32)
    adapter.set(truncate(theta, adapter.layout, rank))
    modules = dict(adapter.model.named_modules())
    for layer in layers:
        moved = modules[f"base_model.model.{layer.name}"].get_delta_weight("default").detach().numpy()
        product = layer.scaling * layer.read(theta, rank).dense()
        assert np.allclose(moved.reshape(product.shape), product, atol=1e-5)


def test_an_adapter_without_lora_has_none():
    torch.manual_seed(0)
    adapter = build_own(
        torch.nn.Sequential(torch.nn.Linear(4, 4)), peft.IA3Config(target_modules=["0"], feedforward_modules=[]), seed=1
    )
    assert lora_scalings(adapter) == {}
    assert lora_layers(adapter.layout, {}) == ()
