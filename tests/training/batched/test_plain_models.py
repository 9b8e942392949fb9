"""Models without peft: whatever parameters their user left unfrozen are trained, many clients at a time.

A new way of choosing them is one line in `CHOICES`.
"""

from __future__ import annotations

import pytest
import torch
from tiny_models import Classify, assert_close, encoder, jobs, together_and_alone

from fedpeft.adapters import FlatAdapter
from fedpeft.training.batched import examine


def unfrozen(model, wanted):
    """The model with those parameters trained whose name `wanted` says yes to."""
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(bool(wanted(name)))
    return FlatAdapter(model.eval())


CHOICES = {  # name -> (kinds of model, which parameters)
    "biases": (("bert", "vit", "gpt2"), lambda name: name.endswith("bias") and "pooler" not in name),
    "norms": (("bert", "vit", "gpt2", "llama"), lambda name: "norm" in name.lower() or "ln_" in name),
    "a layer": (("bert", "vit", "gpt2", "llama"), lambda name: ".1." in name and "weight" in name),
    "word embeddings": (
        ("bert", "gpt2", "llama"),
        lambda name: "word_emb" in name or "wte" in name or "tokens" in name,
    ),
    "all but the embeddings": (("bert", "gpt2", "llama"), lambda name: ".0." in name or ".1." in name),
}


@pytest.mark.parametrize(
    ("name", "kind"), [(name, kind) for name, (kinds, _) in CHOICES.items() for kind in kinds], ids=lambda value: value
)
def test_gradients_together_are_those_of_each_alone(name, kind):
    adapter = unfrozen(encoder(kind), CHOICES[name][1])
    together, alone = together_and_alone(adapter, kind)
    assert_close(adapter, together, alone)
    (job,) = jobs(kind, adapter.get(), 1)
    trouble, _ = examine(adapter, Classify(), job)
    assert trouble == ""


class ScaleAndShift(torch.nn.Module):
    """SSF (Lian et al. 2022, arXiv 2210.08823) around a frozen layer."""

    def __init__(self, layer, width):
        super().__init__()
        self.layer = layer
        self.scale = torch.nn.Parameter(torch.ones(width))
        self.shift = torch.nn.Parameter(torch.zeros(width))

    def forward(self, x):
        return self.layer(x) * self.scale + self.shift


class Bottleneck(torch.nn.Module):
    """A serial adapter (Houlsby et al. 2019, arXiv 1902.00751) with a gate of its own around layers of its own."""

    def __init__(self, layer, width):
        super().__init__()
        self.layer = layer
        self.down, self.up = torch.nn.Linear(width, 4), torch.nn.Linear(4, width)
        self.gate = torch.nn.Parameter(torch.ones(()))

    def forward(self, x):
        y = self.layer(x)
        return y + self.gate * self.up(torch.nn.functional.gelu(self.down(y)))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["fp32", "bf16"])
@pytest.mark.parametrize("around", [ScaleAndShift, Bottleneck])
def test_modules_of_the_users_own(around, dtype):
    model = encoder("bert")
    torch.manual_seed(2)
    for block in model.encoder.layer:
        block.attention.output.dense = around(block.attention.output.dense, 32)
        block.output.LayerNorm = around(block.output.LayerNorm, 32)
    adapter = unfrozen(
        model.to(dtype), lambda name: any(part in name for part in ("scale", "shift", "down", "up.", "gate"))
    )
    together, alone = together_and_alone(adapter, "bert")
    assert_close(adapter, together, alone, bound=1e-5 if dtype == torch.float32 else 0.2)


class Tied(torch.nn.Module):
    """Two layers with one trained weight."""

    def __init__(self):
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(5)
            self.one, self.two = torch.nn.Linear(192, 192), torch.nn.Linear(192, 192, bias=False)
        self.two.weight = self.one.weight

    def forward(self, pixel_values):
        y = self.two(torch.relu(self.one(pixel_values.flatten(1))))
        return _Found(y[:, None])


class _Found(dict):
    def __init__(self, hidden):
        super().__init__(last_hidden_state=hidden)
        self.last_hidden_state = hidden


def test_a_tied_weight_gathers_both_layers_gradients():
    adapter = FlatAdapter(Tied())
    together, alone = together_and_alone(adapter, "vit")
    assert_close(adapter, together, alone)
    assert len(adapter.layout.tensors) == 2
