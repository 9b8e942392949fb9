"""The kernel of a run: by name or by measurement, and never one that computes something else."""

from __future__ import annotations

import pytest
import torch

from fedpeft import registry
from fedpeft.errors import ConfigError, PluginError
from fedpeft.kernels import choice as module
from fedpeft.kernels import choose_kernel
from fedpeft.kernels.native import Native

SHAPES = [(256, 256)] * 3 + [(512, 256)]


class Product:
    bytes = 0

    def __init__(self, weight, bias):
        self.inner = Native().hold(weight, bias)

    def forward(self, x):
        return self.inner.forward(x)

    def backward(self, gradient):
        return self.inner.backward(gradient)


class Right:
    """Torch's own product under another name."""

    product = Product

    def available(self, weight):
        return ""

    def hold(self, weight, bias):
        return self.product(weight, bias)


class Wrong(Right):
    class product(Product):
        def forward(self, x):
            return super().forward(x) * 1.001


class WrongBackward(Right):
    class product(Product):
        def backward(self, gradient):
            return super().backward(gradient) + 1e-3


class ForgetsTheBias(Right):
    def hold(self, weight, bias):
        return Product(weight, None)


class Mixing(Right):
    class product(Product):
        def forward(self, x):
            y = super().forward(x)
            return y if len(x) < 200 else torch.nextafter(y, torch.full_like(y, 9.0))


class NotANumber(Right):
    class product(Product):
        def backward(self, gradient):
            return super().backward(gradient) * float("nan")


class Failing(Right):
    def hold(self, weight, bias):
        raise RuntimeError("no such instruction\nand a trace")


class Absent(Right):
    def available(self, weight):
        return "there is no such device"


BAD = [
    (Wrong, "its products are wrong by 1.0e-03, more than 1e-05"),
    (WrongBackward, "its products are wrong by"),
    (ForgetsTheBias, "its products are wrong by"),
    (Mixing, "a row of its products depends on the other rows"),
    (NotANumber, "its products are wrong by nan"),
    (Failing, "it fails: no such instruction"),
    (Absent, "there is no such device"),
]


def offer(monkeypatch, **kernels):
    """Only these kernels beside torch's own; their times are made up: each takes half as long as the one before.

    A name stands for one class in all tests, since the registry looks it up once a process.
    """
    known = {"torch": "fedpeft.kernels.native:Native"}
    for name, kernel in kernels.items():
        monkeypatch.setattr(module, f"offered_{name}", kernel, raising=False)
        known[name] = f"fedpeft.kernels.choice:offered_{name}"
    monkeypatch.setitem(registry.BUILTIN, "kernel", known)

    def measure(rivals, samples):
        return {name: 1.0 if name == "torch" else 0.5 ** (1 + place) for place, name in enumerate(rivals)}

    monkeypatch.setattr(module, "_measure", measure)


def chosen(wanted, dtype=torch.float32, shapes=SHAPES, device="cpu"):
    return choose_kernel(wanted, shapes, dtype=dtype, device=device)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_auto_is_one_of_the_known_ones_and_says_why(dtype):
    found = chosen("auto", dtype)
    assert found.name in registry.names("kernel")
    assert found.name in found.reason
    assert str(dtype).removeprefix("torch.") in found.reason
    assert found.kernel.available(torch.zeros(2, 2, dtype=dtype)) == ""


def test_auto_takes_the_fastest_that_is_right(monkeypatch):
    offer(monkeypatch, quick=Right, quicker=Right)
    found = chosen("auto")
    assert (found.name, type(found.kernel)) == ("quicker", Right)
    assert found.reason == "quicker: 8.0 times as fast as torch's own products here, in the same float32"


def test_a_little_faster_is_not_enough(monkeypatch):
    offer(monkeypatch, quick=Right)
    monkeypatch.setattr(module, "_measure", lambda rivals, samples: {"torch": 1.0, "quick": 0.8})
    found = chosen("auto")
    assert found.name == "torch"
    assert found.reason == "torch's own products (float32): no other kernel is faster here"


@pytest.mark.parametrize(("kernel", "reason"), BAD)
def test_auto_leaves_out_one_that_is_wrong_and_says_so(monkeypatch, kernel, reason):
    name = kernel.__name__.lower()
    offer(monkeypatch, **{name: kernel})
    found = chosen("auto")
    assert found.name == "torch"
    assert f"{name} is left out: {reason}" in found.reason


@pytest.mark.parametrize(("kernel", "reason"), BAD)
def test_one_that_is_wrong_is_refused_by_name_too(monkeypatch, kernel, reason):
    name = kernel.__name__.lower()
    offer(monkeypatch, **{name: kernel})
    with pytest.raises(ConfigError) as caught:
        chosen(name)
    assert f'engine.kernel = "{name}" cannot be used here: {reason}' in caught.value.message
    assert caught.value.code == "config.kernel"
    assert caught.value.allowed == ", ".join(["auto", *sorted([name, "torch"])])
    assert 'engine.kernel = "auto"' in caught.value.remedy


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_by_name(dtype):
    found = chosen("torch", dtype)
    assert (found.name, type(found.kernel)) == ("torch", Native)
    assert "as the run file asks" in found.reason


def test_an_unknown_name():
    with pytest.raises(PluginError) as caught:
        chosen("onednm")
    assert caught.value.code == "plugin.unknown-kernel"
    assert "onednn" in f"{caught.value.allowed} {caught.value.remedy}"


@pytest.mark.parametrize("shapes", [[], [(8, 8)], [(2, 8_000)]], ids=str)
def test_of_small_matrices_nothing_is_measured(monkeypatch, shapes):
    monkeypatch.setattr(module, "_measure", None)
    assert chosen("auto", shapes=shapes).name == "torch"


def test_the_shapes_that_cost_most_are_tried():
    shapes = [(128, 128)] * 9 + [(256, 256)] * 8 + [(512, 256)] * 2 + [(300, 300)]
    samples = module._samples(shapes, torch.float32, "cpu")
    assert [tuple(sample.weight.shape) for sample in samples] == [(256, 256), (512, 256), (128, 128)]


def test_a_measurement_takes_every_kernel_in_turn():
    calls = []

    def recording(name):
        class Recording(Right):
            class product(Product):
                def forward(self, x):
                    calls.append(name)
                    return super().forward(x)

        return Recording()

    times = module._measure({name: recording(name) for name in "ab"}, module._samples(SHAPES, torch.float32, "cpu"))
    assert set(times) == {"a", "b"}
    assert all(seconds > 0 for seconds in times.values())
    assert calls[:4] == ["a", "a", "b", "b"]  # two shapes each
