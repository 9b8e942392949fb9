"""LoRA layers whose update is not B A: known by what peft made of them, refused where components are cut or mixed."""

from __future__ import annotations

import peft
import pytest
import torch
from tiny_models import encoder, linear_names
from tiny_text import write_run

from fedpeft import api
from fedpeft.adapters import build_adapter
from fedpeft.adapters.products import check_products, no_products
from fedpeft.config import load_run_file
from fedpeft.errors import FedpeftError, ModelError

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


def experts():
    from transformers import MixtralConfig, MixtralModel

    sizes = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2}
    return MixtralModel(MixtralConfig(vocab_size=32, num_key_value_heads=1, num_local_experts=3, **sizes))


class Grouped(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = torch.nn.Conv1d(8, 8, 3, groups=4)

    def forward(self, x):
        return self.conv(x)


@pytest.mark.parametrize("kind", ["bert", "vit", "gpt2", "llama"])
@pytest.mark.parametrize("more", [{}, {"use_dora": True}])
def test_where_each_layer_is_its_product_there_is_none(kind, more):
    config = peft.LoraConfig(r=2, target_modules=linear_names(encoder(kind)), **more)
    assert no_products(build_adapter(encoder(kind), config, seed=1)) == {}


@pytest.mark.parametrize(
    ("model", "config", "layer", "says"),
    [
        (
            experts,
            {"r": 4, "target_modules": ["q_proj"], "target_parameters": ["mlp.experts.down_proj"]},
            "experts",
            "3 pairs",
        ),
        (Grouped, {"r": 4, "target_modules": ["conv"]}, "conv", "4 groups"),
        (lambda: encoder("bert"), {"r": 2, "target_modules": ["query"], "kasa_config": {}}, "query", "Kasa"),
    ],
)
def test_what_is_no_product_is_known_and_named(model, config, layer, says):
    adapter = build_adapter(model(), peft.LoraConfig(**config), seed=1)
    found = no_products(adapter)
    assert found
    assert all(layer in name and says in why for name, why in found.items()), found
    check_products(adapter, lambda: "")
    with pytest.raises(ModelError, match=r"devices\.rank = 2 takes") as error:
        check_products(adapter, lambda: "devices.rank = 2")
    assert layer in str(error.value)


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"devices": [{"name": "a", "clients": 3}, {"name": "b", "clients": 1, "rank": 1}]}, "devices.rank = 1"),
        ({"aggregation": {"rule": "flexlora"}}, "aggregation.rule"),
        ({"scheduler": {"name": "ucb", "arms": {"rank": [1, 2]}}}, "scheduler.arms.rank"),
    ],
)
def test_a_run_that_would_cut_or_mix_them_is_refused(tmp_path, changes, key):
    adapter = {"type": "lora", "rank": 2, "alpha": 4, "target_modules": ["query", "value"], "kasa_config": {}}
    api.validate(load_run_file(write_run(tmp_path / "plain", adapter=adapter)))
    with pytest.raises(FedpeftError, match="Kasa") as error:
        api.validate(load_run_file(write_run(tmp_path / "cut", adapter=adapter, **changes)))
    assert key in str(error.value)
