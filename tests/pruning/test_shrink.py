"""The smaller model is the full one with the pruned heads and channels silenced: outputs, gradients, and places in θ.

An architecture that can be pruned is a line in `KINDS`.
"""

from __future__ import annotations

import numpy as np
import peft
import pytest
import torch
from tiny_models import scattered
from tiny_pruning import gradient, made, silence, some_mask

from fedpeft.adapters import FlatAdapter
from fedpeft.adapters.build import build_adapter
from fedpeft.errors import ModelError
from fedpeft.kernels import install
from fedpeft.kernels.native import Native
from fedpeft.pruning.anatomy import FAMILIES, anatomy_of
from fedpeft.pruning.counting import count_products
from fedpeft.pruning.shrink import KEPT, Pruner

KINDS = ["bert", "vit", "gpt2", "llama"]
every_kind = pytest.mark.parametrize("kind", KINDS)
SIZES = {"bert": (4, 64), "vit": (4, 64), "gpt2": (4, 128), "llama": (2, 64)}  # llama: two groups of two heads


@every_kind
def test_units_are_the_heads_and_channels_of_every_layer(kind):
    _, pruner = made(kind)
    assert pruner.units.sizes == 2 * SIZES[kind]
    owners, counts = np.unique(pruner.units.unit_of, return_counts=True)
    assert owners.tolist() == list(range(-1, pruner.units.count))
    assert len(set(counts[1 : 1 + SIZES[kind][0]])) == 1  # heads are of one size


@every_kind
@pytest.mark.parametrize("ratio", [0.3, 0.5])
def test_outputs_and_gradients_are_those_of_the_full_model_with_the_pruned_ones_silenced(kind, ratio):
    adapter, pruner = made(kind)
    mask = some_mask(pruner, ratio)
    smaller = pruner.shrunk(mask)
    smaller.adapter.set(adapter.get()[smaller.places])
    found, own = gradient(smaller.adapter, kind)
    hooks = silence(pruner, mask)
    expected, full = gradient(adapter, kind)
    assert torch.allclose(found, expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(own, full[smaller.places], rtol=1e-3, atol=1e-5 * np.abs(full).max())
    away = np.setdiff1d(np.arange(len(full)), smaller.places)
    assert len(away) > 0.2 * ratio * len(full)
    for hook in hooks:
        hook.remove()
    changed, _ = gradient(adapter, kind)
    assert not torch.allclose(changed, expected, rtol=1e-3)  # what was silenced did matter


@every_kind
def test_a_mask_that_keeps_everything_gives_the_same_bits_and_leaves_the_full_model_alone(kind):
    adapter, pruner = made(kind)
    before, expected = gradient(adapter, kind)
    smaller = pruner.shrunk(np.packbits(np.ones(pruner.units.count, dtype=bool)).tobytes())
    smaller.adapter.set(adapter.get()[smaller.places])
    found, own = gradient(smaller.adapter, kind)
    assert torch.equal(found, before)
    assert np.array_equal(own, expected)
    assert np.array_equal(smaller.places, np.arange(len(own)))
    assert torch.equal(gradient(adapter, kind)[0], before)


@every_kind
def test_it_is_smaller_and_shares_all_that_is_not_cut(kind):
    adapter, pruner = made(kind)
    smaller = pruner.shrunk(some_mask(pruner)).adapter
    ours = {parameter.data_ptr() for parameter in adapter.model.parameters()}
    new = [parameter for parameter in smaller.model.parameters() if parameter.data_ptr() not in ours]
    frozen = sum(parameter.numel() for parameter in new if not parameter.requires_grad)
    cut = {cut.module for cut in pruner.anatomy.cuts}
    whole = 0
    for name in cut:
        layer = adapter.model.get_submodule(name)
        whole += sum(p.numel() for p in layer.parameters() if not p.requires_grad)
    assert 0.45 * whole < frozen < 0.6 * whole
    assert len(new) < len(list(smaller.model.parameters()))


@every_kind
def test_the_arithmetic_is_what_torch_counts(kind):
    from torch.utils.flop_counter import FlopCounterMode

    adapter, pruner = made(kind)
    smaller = pruner.shrunk(some_mask(pruner)).adapter
    counts = []
    for each in (adapter, smaller):
        with FlopCounterMode(display=False) as counter:
            gradient(each, kind)
        counts.append(counter.get_total_flops())
    share = count_products(adapter.model, pruner.anatomy, tokens=5).share(ratio=0.5)
    assert counts[1] / counts[0] == pytest.approx(share, abs=0.08)


def test_a_kernel_is_under_the_smaller_model_too_and_shared_where_nothing_is_cut():
    adapter, _ = made("bert")
    install(adapter.model, Native())
    pruner = Pruner(adapter, Native())
    mask = some_mask(pruner)
    smaller = pruner.shrunk(mask)
    smaller.adapter.set(adapter.get()[smaller.places])
    plain = made("bert")[1].shrunk(mask).adapter
    plain.set(smaller.adapter.get())
    assert torch.allclose(gradient(smaller.adapter, "bert")[0], gradient(plain, "bert")[0], rtol=1e-5)
    held = [
        vars(module)["_fedpeft_product"]
        for module in smaller.adapter.model.modules()
        if "_fedpeft_product" in vars(module)
    ]
    full = [
        vars(module)["_fedpeft_product"] for module in adapter.model.modules() if "_fedpeft_product" in vars(module)
    ]
    assert len(held) == len(full)
    assert len({id(product) for product in held} & {id(product) for product in full}) == len(full) - 12  # 6 a layer


def test_models_of_masks_not_used_lately_are_let_go():
    _, pruner = made("bert")
    masks = [some_mask(pruner, seed=seed) for seed in range(KEPT + 1)]
    first, *_ = [pruner.shrunk(mask) for mask in masks]
    assert not pruner.keeps(first)
    assert pruner.shrunk(masks[-1]) is pruner.shrunk(masks[-1])


def test_a_run_of_many_ratios_makes_each_of_its_models_once():
    adapter, _ = made("bert")
    pruner = Pruner(adapter, kept=KEPT + 2)
    masks = [some_mask(pruner, seed=seed) for seed in range(KEPT + 2)]
    first = [pruner.shrunk(mask) for mask in masks]
    assert all(pruner.shrunk(mask) is model for mask, model in zip(masks, first, strict=True))


def test_frozen_factors_are_cut_with_their_layers():
    """FFA-LoRA: every A keeps its value and is no part of θ."""
    from fedpeft.adapters.freeze import freeze

    adapter, _ = made("bert")
    adapter = freeze(adapter, ["lora_A"])
    pruner = Pruner(adapter)
    mask = some_mask(pruner)
    smaller = pruner.shrunk(mask)
    smaller.adapter.set(adapter.get()[smaller.places])
    found, own = gradient(smaller.adapter, "bert")
    silence(pruner, mask)
    expected, full = gradient(adapter, "bert")
    assert torch.allclose(found, expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(own, full[smaller.places], rtol=1e-3, atol=1e-5 * np.abs(full).max())


def test_an_unknown_architecture_is_refused_by_name():
    model = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.Linear(4, 2))
    with pytest.raises(ModelError, match='"Sequential"') as error:
        anatomy_of(model)
    assert all(name in str(error.value) for name in FAMILIES)


@pytest.mark.parametrize(("more", "says"), [({"use_dora": True}, "not plain LoRA"), ({"bias": "all"}, "bias")])
def test_an_adapter_that_is_not_plain_lora_is_refused(more, says):
    with pytest.raises(ModelError, match=says):
        made("bert", **more)


@pytest.mark.parametrize("name", ["RobertaForSequenceClassification", "MistralModel", "Qwen2Model"])
def test_models_of_the_same_names_are_pruned_alike(name):
    import transformers

    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
    own = {} if name.startswith("Roberta") else {"num_key_value_heads": 2}
    config_class = getattr(transformers, name).config_class
    model = getattr(transformers, name)(config_class(**sizes, **own, vocab_size=40, pad_token_id=0)).eval()
    adapter = build_adapter(model.requires_grad_(False), peft.LoraConfig(r=2, target_modules="all-linear"), seed=1)
    pruner = Pruner(adapter)
    assert pruner.units.sizes == 2 * ((4, 64) if not own else (2, 64))
    adapter.set(scattered(adapter.get()))
    mask = some_mask(pruner)
    smaller = pruner.shrunk(mask)
    smaller.adapter.set(adapter.get()[smaller.places])
    assert isinstance(smaller.adapter, FlatAdapter)
    ids = torch.arange(2, 12).view(2, 5)
    found = smaller.adapter.model(input_ids=ids)[0]
    silence(pruner, mask)
    assert torch.allclose(found, adapter.model(input_ids=ids)[0], rtol=1e-3, atol=1e-5)
