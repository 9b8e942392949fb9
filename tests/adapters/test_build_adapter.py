"""θ_0 comes from the run's seed alone, and an adapter that does not fit is refused in the run file's words."""

import os
import subprocess
import sys

import numpy as np
import peft
import pytest
import torch
from tiny_text import bert_config, gpt2_config

from fedpeft.adapters import build_adapter, peft_config
from fedpeft.config import AdapterTable
from fedpeft.errors import ModelError

LORA = peft.LoraConfig(r=2, target_modules=["0", "2"])


def network(torch_seed=1):
    torch.manual_seed(torch_seed)
    return torch.nn.Sequential(torch.nn.Linear(6, 5), torch.nn.Tanh(), torch.nn.Linear(5, 4))


def tensors(adapter):
    theta = adapter.get()
    return {t.name: theta[t.offset : t.offset + t.size].reshape(t.shape) for t in adapter.layout.tensors}


def test_a_is_uniform_from_the_run_seed_and_b_is_zero():
    first = tensors(build_adapter(network(1), LORA, seed=9))
    other = tensors(build_adapter(network(2), LORA, seed=9))  # another base, another state of torch's generator
    assert all(np.array_equal(first[name], other[name]) for name in first)
    for name, values in first.items():
        if "lora_A" in name:
            bound = values.shape[1] ** -0.5
            assert 0.5 * bound < np.abs(values).max() <= bound
        else:
            assert not values.any()
    assert not np.array_equal(
        first["0.lora_A.weight"], tensors(build_adapter(network(), LORA, seed=10))["0.lora_A.weight"]
    )


def test_a_of_a_convolution_counts_its_kernel():
    model = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 5))
    a = tensors(build_adapter(model, peft.LoraConfig(r=3, target_modules=["0"]), seed=9))["0.lora_A.weight"]
    assert a.shape == (3, 3, 5, 5)
    assert 0.8 * 75**-0.5 < np.abs(a).max() <= 75**-0.5


def test_another_initialisation_is_peft_s_own_and_seeded():
    config = peft.LoraConfig(r=2, target_modules=["0"], init_lora_weights="pissa")
    base, x = network(), torch.randn(3, 6)
    before = base(x)
    adapter = build_adapter(base, config, seed=9)
    assert tensors(adapter)["0.lora_B.weight"].any()
    torch.testing.assert_close(adapter.model(x), before)  # PiSSA splits W; a redrawn A would break the sum
    gaussian = peft.LoraConfig(r=2, target_modules=["0"], init_lora_weights="gaussian")
    first, second = (build_adapter(network(k), gaussian, seed=9).get() for k in (1, 2))
    assert np.array_equal(first, second)


def test_torch_s_generator_is_left_as_it_was():
    model = network()
    before = torch.get_rng_state()
    build_adapter(model, LORA, seed=9)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.system
def test_two_processes_derive_the_same_start():
    code = (
        "import hashlib, peft, torch\n"
        "from fedpeft.adapters import build_adapter\n"
        "model = torch.nn.Sequential(torch.nn.Linear(6, 5), torch.nn.Tanh(), torch.nn.Linear(5, 4))\n"
        "for config in (peft.LoHaConfig(r=2, target_modules=['0', '2']), peft.LoraConfig(r=2, target_modules=['0'])):\n"
        "    print(hashlib.sha256(build_adapter(model, config, seed=9).get()).hexdigest())\n"
    )
    outputs = [
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": salt, "OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for salt in ("1", "2")
    ]
    assert outputs[0] == outputs[1]


def test_the_users_configuration_is_not_changed():
    config = peft.LoraConfig(r=2, target_modules="all-linear")
    build_adapter(network(), config, seed=9)
    assert config.target_modules == "all-linear"
    assert config.base_model_name_or_path is None


def test_a_model_that_was_wrapped_before_is_wrapped_afresh():
    model, x = network(), torch.randn(3, 6)
    before = model(x)
    config = peft.LoraConfig(r=2, target_modules=["0"], modules_to_save=["2"])
    first = build_adapter(model, config, seed=9)
    digest, theta = first.layout.digest, first.get()
    first.set(theta + 1)
    again = build_adapter(model, config, seed=9)
    assert again.layout.digest == digest
    assert np.array_equal(again.get(), theta)
    torch.testing.assert_close(again.model(x), before)
    other = build_adapter(model, peft.IA3Config(target_modules=["0"], feedforward_modules=[]), seed=9)
    torch.testing.assert_close(other.model(x), before)


@pytest.mark.parametrize(
    ("rank", "targets", "message", "allowed"),
    [
        (0, ["0"], "adapter.rank = 0", "1 to 5"),
        (-1, ["0"], "adapter.rank = -1", "1 to 5"),
        (5, ["0", "2"], "adapter.rank = 5 does not fit: the layer 2 is only 4 wide", "1 to 4"),
        (6, "all-linear", "adapter.rank = 6 does not fit", "1 to 5"),
        (10**9, ["0"], "adapter.rank = 1000000000", "1 to 5"),
    ],
)
def test_a_rank_that_fits_no_layer_names_the_layer(rank, targets, message, allowed):
    config = peft.LoraConfig(r=4, target_modules=targets)
    config.r = rank
    with pytest.raises(ModelError) as caught:
        build_adapter(network(), config, seed=9)
    assert message in caught.value.message
    assert (caught.value.code, caught.value.allowed) == ("adapter.rank", allowed)
    assert caught.value.remedy


def test_the_largest_rank_that_fits_is_taken():
    assert build_adapter(network(), peft.LoraConfig(r=4, target_modules=["0", "2"]), seed=9).layout.size == 4 * 20


def test_a_layer_that_is_left_out_does_not_count_for_the_rank():
    from transformers import BertForSequenceClassification

    model = BertForSequenceClassification(bert_config(num_labels=2))
    table = AdapterTable(rank=8, target_modules="all-linear")
    adapter = build_adapter(model, peft_config(table, classifier=True, fresh=["classifier"]), seed=9)
    names = [tensor.name for tensor in adapter.layout.tensors if "classifier" in tensor.name]
    assert names == ["classifier.bias", "classifier.weight"]


@pytest.mark.parametrize(
    ("targets", "remedy"),
    [
        (["qery"], 'did you mean "query"?'),
        ("valu", 'did you mean "value"?'),
        (["query", "zzzzzzzz"], "name modules of this model"),
        ("(", "name modules of this model"),
        ([], "name modules of this model"),
    ],
)
def test_a_target_that_the_model_lacks_names_the_closest(targets, remedy):
    from transformers import BertModel

    with pytest.raises(ModelError) as caught:
        build_adapter(BertModel(bert_config()), peft_config(AdapterTable(target_modules=targets)), seed=9)
    assert caught.value.code == "adapter.no-module"
    assert caught.value.allowed == 'dense, key, query, value, or "all-linear"'
    assert caught.value.remedy == remedy


def test_a_regular_expression_names_modules():
    from transformers import BertModel

    config = peft_config(AdapterTable(rank=2, target_modules=r".*layer\.1\..*\.(query|value)"))
    adapter = build_adapter(BertModel(bert_config()), config, seed=9)
    assert [tensor.name for tensor in adapter.layout.tensors] == [
        f"encoder.layer.1.attention.self.{module}.lora_{half}.weight" for module in ("query", "value") for half in "AB"
    ]


def test_the_pooler_is_left_out_where_nothing_reads_it():
    from transformers import BertModel

    adapter = build_adapter(BertModel(bert_config()), peft_config(AdapterTable(rank=2)), seed=9)
    assert not [tensor.name for tensor in adapter.layout.tensors if "pooler" in tensor.name]


def test_conv1d_of_gpt2_is_a_linear_layer():
    from transformers import GPT2Model

    config = peft_config(AdapterTable(rank=2, target_modules=["c_attn"]))
    adapter = build_adapter(GPT2Model(gpt2_config()), config, seed=9)
    shapes = {tensor.name: tensor.shape for tensor in adapter.layout.tensors}
    assert shapes["h.0.attn.c_attn.lora_A.weight"] == (2, 16)
    assert shapes["h.0.attn.c_attn.lora_B.weight"] == (48, 2)
    config.r = 17
    with pytest.raises(ModelError, match="only 16 wide"):
        build_adapter(GPT2Model(gpt2_config()), config, seed=9)


@pytest.mark.parametrize(
    ("model", "config", "code"),
    [
        (lambda: network(), {"r": 2}, "adapter.no-config"),
        (lambda: network(), peft.PromptTuningConfig(num_virtual_tokens=2), "adapter.no-tokens"),
        (lambda: network(), peft.AdaLoraConfig(total_step=9, target_modules=["0"]), "adapter.kind"),
        (lambda: "bert", LORA, "adapter.no-model"),
        (lambda: peft.get_peft_model(network(), LORA), LORA, "adapter.no-model"),
        (lambda: network(), peft.LoraConfig(r=2, target_modules=["1"]), "adapter.refused"),
        (lambda: network(), peft.LoraConfig(r=2), "adapter.refused"),
    ],
)
def test_what_peft_cannot_wrap_is_one_error(model, config, code):
    with pytest.raises(ModelError) as caught:
        build_adapter(model(), config, seed=9)
    assert caught.value.code == code
    assert caught.value.remedy


@pytest.mark.parametrize(
    "config",
    [
        peft.IA3Config(target_modules=["0", "2"], feedforward_modules=[]),
        peft.LoHaConfig(r=2, target_modules=["0", "2"]),
        peft.LoraConfig(r=2, target_modules=["0"], use_dora=True),
        peft.LoraConfig(r=2, target_modules=["0"], bias="lora_only"),
    ],
    ids=["ia3", "loha", "dora", "bias"],
)
def test_other_kinds_start_from_the_base_itself(config):
    model, x = network(), torch.randn(3, 6)
    before = model(x)
    adapter = build_adapter(model, config, seed=9)
    torch.testing.assert_close(adapter.model(x), before)
    adapter.set(adapter.get() + 0.5)
    assert not torch.allclose(adapter.model(x), before)
