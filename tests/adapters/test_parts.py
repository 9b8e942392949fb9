"""Each trainable tensor of a wrapped model belongs to exactly one part, and plain LoRA is told from all else."""

from __future__ import annotations

import peft
import pytest
import torch
from tiny_models import NORMS, QUERY_AND_VALUE, encoder, linear_names

from fedpeft.adapters import FlatAdapter, build_adapter
from fedpeft.adapters.freeze import freeze
from fedpeft.adapters.parts import trainable_parts

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


def parts_of(kind, config, **more):
    adapter = build_adapter(encoder(kind, **more), config, seed=1)
    return adapter, trainable_parts(adapter)


def check(adapter, parts):
    """Every tensor once, by a name under which the module finds it, and no part inside another."""
    named = [spec.name for part in parts for spec in part.tensors.values()]
    assert sorted(named) == [tensor.name for tensor in adapter.layout.tensors]
    for part in parts:
        assert part.module is adapter.model.get_submodule(part.name)
        for key, spec in part.tensors.items():
            assert part.module.get_parameter(key) is adapter.parameters[spec.name]
        assert not any(other.name.startswith(f"{part.name}.") for other in parts)


@pytest.mark.parametrize("kind", ["bert", "vit", "gpt2", "llama"])
def test_plain_lora_is_known_by_its_matrices(kind):
    adapter, parts = parts_of(kind, peft.LoraConfig(r=3, lora_alpha=12, target_modules=linear_names(encoder(kind))))
    check(adapter, parts)
    for part in parts:
        assert part.lora is not None
        assert part.lora.a.name.endswith(".lora_A.weight")
        assert part.lora.b.name.endswith(".lora_B.weight")
        assert part.lora.a.shape[0] == part.lora.b.shape[1] == 3
        assert part.lora.scaling == 4.0
        assert part.lora.base is part.module.base_layer
        assert type(part.lora.dropout) is torch.nn.Identity


def test_scaling_and_rank_are_each_layers_own():
    config = peft.LoraConfig(
        r=4,
        lora_alpha=8,
        target_modules=["query", "value"],
        use_rslora=True,
        rank_pattern={"query": 1},
        lora_dropout=0.25,
    )
    _, parts = parts_of("bert", config)
    found = {part.name.rsplit(".", 1)[-1]: part.lora for part in parts}
    assert (found["query"].scaling, found["query"].a.shape[0]) == (8.0, 1)
    assert (found["value"].scaling, found["value"].a.shape[0]) == (4.0, 4)
    assert found["value"].dropout.p == 0.25


QV = QUERY_AND_VALUE["bert"]


@pytest.mark.parametrize(
    "config",
    [
        peft.LoraConfig(r=2, target_modules=QV, use_dora=True),
        peft.LoraConfig(r=2, target_modules=QV, lora_bias=True),
        peft.LoraConfig(r=2, target_modules=QV, bias="lora_only"),
        peft.LoraConfig(r=2, target_modules=["word_embeddings"]),
        peft.IA3Config(target_modules=QV, feedforward_modules=[]),
        peft.VeraConfig(r=2, target_modules=QV),
        peft.LoHaConfig(r=2, target_modules=QV),
        peft.LNTuningConfig(target_modules=NORMS["bert"]),
    ],
    ids=["dora", "lora-bias", "bias", "embedding", "ia3", "vera", "loha", "norms"],
)
def test_all_else_is_no_plain_lora(config):
    adapter, parts = parts_of("bert", config)
    check(adapter, parts)
    assert parts
    assert all(part.lora is None for part in parts)


def test_lora_of_a_convolution_is_none():
    adapter, parts = parts_of("vit", peft.LoraConfig(r=2, target_modules=["projection"]))
    check(adapter, parts)
    assert [part.lora for part in parts] == [None]


def test_a_fully_trained_head_and_all_biases():
    config = peft.LoraConfig(r=2, target_modules=["query"], modules_to_save=["classifier"], bias="all")
    adapter, parts = parts_of("bert", config, head=True)
    check(adapter, parts)
    by_name = {part.name.removeprefix("base_model.model."): part for part in parts}
    assert sorted(by_name["classifier"].tensors) == ["modules_to_save.default.bias", "modules_to_save.default.weight"]
    assert "base_layer.bias" in by_name["bert.encoder.layer.0.attention.self.query"].tensors
    assert by_name["bert.encoder.layer.1.output.dense"].tensors.keys() == {"bias"}


class Scaled(torch.nn.Module):
    """Scale and shift around a layer, with a bias of that layer trained too: two tensors of its own, one inside."""

    def __init__(self):
        super().__init__()
        self.inner = torch.nn.Linear(4, 4)
        self.inner.weight.requires_grad_(False)
        self.scale = torch.nn.Parameter(torch.ones(4))
        self.shift = torch.nn.Parameter(torch.zeros(4))

    def forward(self, x):
        return self.inner(x) * self.scale + self.shift


def test_a_module_with_tensors_of_its_own_takes_those_inside_it_along():
    adapter = FlatAdapter(torch.nn.Sequential(Scaled(), torch.nn.ReLU(), Scaled()))
    parts = trainable_parts(adapter)
    check(adapter, parts)
    assert [part.name for part in parts] == ["0", "2"]
    assert set(parts[0].tensors) == {"scale", "shift", "inner.bias"}


def test_the_whole_model_may_be_one_part():
    adapter = FlatAdapter(Scaled())
    (part,) = trainable_parts(adapter)
    assert part.module is adapter.model
    assert set(part.tensors) == {"scale", "shift", "inner.bias"}


def test_a_tensor_that_two_layers_share_is_part_of_both():
    one, two = torch.nn.Linear(4, 4), torch.nn.Linear(4, 4)
    two.weight = one.weight
    adapter = FlatAdapter(torch.nn.Sequential(one, two))
    parts = trainable_parts(adapter)
    assert [sorted(spec.name for spec in part.tensors.values()) for part in parts] == [
        ["0.bias", "0.weight"],
        ["0.weight", "1.bias"],
    ]


def test_a_frozen_factor_is_handed_over_as_it_is():
    """FFA-LoRA: A is every client's, and only B has a place in θ."""
    model = torch.nn.Sequential(torch.nn.Linear(8, 8), torch.nn.Linear(8, 4))
    adapter = freeze(build_adapter(model, peft.LoraConfig(r=3, target_modules=["0", "1"]), seed=1), ["lora_A"])
    for part in trainable_parts(adapter):
        assert part.lora is not None
        assert torch.equal(part.lora.a, part.module.lora_A["default"].weight)
        assert part.lora.b.name.endswith(".lora_B.weight")
