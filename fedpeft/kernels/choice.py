"""Which kernel a run uses: asked for by name, or the fastest that passes a test on the model's own shapes.

The test compares forward and backward products with fp64 and demands that rows do not depend on each other. A kernel
that fails is never used, whoever asks for it. What was chosen is returned in words, to be shown and written down.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from fedpeft.errors import ConfigError
from fedpeft.kernels.frozen import FrozenProduct, Kernel
from fedpeft.registry import load, names

ROWS = 256
"""Rows of the test and of the measurement: a small client's tokens of one step."""

MARGIN = {torch.float32: 0.75, torch.bfloat16: 1.05}
"""Another kernel than torch's own must take at most this share of its time. In fp32 it is either twice as fast or about
as fast (then it would only hold memory); in bf16 torch computes with the same library, and packing gains about a tenth.
On most machines neither bound is near what is measured. Where one is (1.4 times as fast in fp32, on an EPYC virtual
machine), other work beside it may decide, and the last bits of a run with it: `engine.kernel` names one."""

SMALL = 128 * 128
"""Numbers in a matrix below which the choice matters little, and a measurement is mostly noise."""

_FALLBACK = "torch"


@dataclass(frozen=True, slots=True)
class KernelChoice:
    """What was chosen, and why."""

    name: str
    kernel: Kernel
    reason: str  # for people, e.g. "onednn: 2.3 times as fast as torch's own product here (fp32)"


def choose_kernel(wanted: str, shapes: Sequence[tuple[int, int]], *, dtype: torch.dtype, device: str) -> KernelChoice:
    """The kernel to use for frozen matrices of these shapes.

    Args:
        wanted: a kernel's name, or "auto".
        shapes: (out, in) of the model's frozen matrices; the most frequent ones count.
        dtype: of the weights and activations.
        device: where they live.

    Raises:
        ConfigError: the kernel asked for cannot be used here, or computes wrong results.
        PluginError: there is no kernel of that name.
    """
    samples = _samples(shapes, dtype, device)
    precision = str(dtype).removeprefix("torch.")
    if wanted != "auto":
        kernel = load("kernel", wanted)()
        trouble = _trouble(kernel, samples)
        if trouble and wanted != _FALLBACK:
            raise ConfigError(
                f'engine.kernel = "{wanted}" cannot be used here: {trouble}',
                code="config.kernel",
                allowed=", ".join(["auto", *names("kernel")]),
                remedy='set engine.kernel = "auto" to use the fastest that works on this machine',
            )
        return KernelChoice(wanted, kernel, f"{wanted} ({precision}), as the run file asks")
    plain: Kernel = load("kernel", _FALLBACK)()
    if not samples or device != "cpu":
        return KernelChoice(_FALLBACK, plain, f"torch's own products ({precision}, {device})")
    rivals, refused = {}, []
    for name in names("kernel"):
        if name != _FALLBACK:
            kernel = load("kernel", name)()
            trouble = _trouble(kernel, samples)
            if trouble:
                refused.append(f"{name} is left out: {trouble}")
            else:
                rivals[name] = kernel
    times = _measure({_FALLBACK: plain, **rivals}, samples)
    best = min(rivals, key=lambda name: times[name], default=_FALLBACK)
    if best != _FALLBACK and times[best] < MARGIN.get(dtype, min(MARGIN.values())) * times[_FALLBACK]:
        ratio = times[_FALLBACK] / times[best]
        reason = f"{best}: {ratio:.1f} times as fast as torch's own products here, in the same {precision}"
        return KernelChoice(best, rivals[best], reason)
    because = "; ".join(refused) or "no other kernel is faster here"
    return KernelChoice(_FALLBACK, plain, f"torch's own products ({precision}): {because}")


@dataclass(frozen=True, slots=True)
class _Sample:
    weight: torch.Tensor  # (out, in)
    bias: torch.Tensor  # (out,)
    x: torch.Tensor  # (ROWS, in)
    gradient: torch.Tensor  # (ROWS, out)


def _samples(shapes: Sequence[tuple[int, int]], dtype: torch.dtype, device: str) -> list[_Sample]:
    """Random matrices of the (at most three) most frequent shapes."""
    large = {shape for shape in shapes if shape[0] * shape[1] >= SMALL}
    common = sorted(large, key=lambda shape: (-shapes.count(shape) * shape[0] * shape[1], shape))[:3]
    generator = torch.Generator().manual_seed(0)

    def draw(*size: int) -> torch.Tensor:
        return torch.randn(*size, generator=generator).to(device=device, dtype=dtype)

    return [
        _Sample(draw(out, size) / size**0.5, draw(out), draw(ROWS, size), draw(ROWS, out) / out**0.5)
        for out, size in common
    ]


def _trouble(kernel: Kernel, samples: Sequence[_Sample]) -> str:
    """Why a kernel cannot be used; empty if it can."""
    for sample in samples:
        reason = kernel.available(sample.weight)
        if reason:
            return reason
        try:
            product = kernel.hold(sample.weight, sample.bias)
            trouble = _wrong(product, sample)
        except (RuntimeError, TypeError, ValueError) as error:
            return f"it fails: {str(error).splitlines()[0]}"
        if trouble:
            return trouble
    return ""


def _wrong(product: FrozenProduct, sample: _Sample) -> str:
    weight, bias = sample.weight.double(), sample.bias.double()
    right = [
        (product.forward, sample.x, torch.addmm(bias, sample.x.double(), weight.t())),
        (product.backward, sample.gradient, torch.mm(sample.gradient.double(), weight)),
    ]
    bound = 1e-5 if sample.weight.dtype == torch.float32 else 2e-2
    for multiply, rows, exact in right:
        found = multiply(rows)
        error = float((found.double() - exact).norm() / exact.norm())
        if not error < bound:
            return f"its products are wrong by {error:.1e}, more than {bound:.0e}"
        for part in (slice(0, 1), slice(1, 3), slice(3, 6), slice(6, 13), slice(40, 77)):
            if not torch.equal(multiply(rows[part].contiguous()), found[part]):
                return "a row of its products depends on the other rows"
    return ""


def _measure(kernels: dict[str, Kernel], samples: Sequence[_Sample]) -> dict[str, float]:
    """Seconds of one forward and backward product over all samples: medians, kernels taking turns."""
    held = {name: [(kernel.hold(s.weight, s.bias), s) for s in samples] for name, kernel in kernels.items()}
    taken: dict[str, list[float]] = {name: [] for name in kernels}
    for _ in range(7):
        for name, products in held.items():
            began = time.process_time()
            for product, sample in products:
                product.forward(sample.x)
                product.backward(sample.gradient)
            taken[name].append(time.process_time() - began)
    return {name: statistics.median(times[1:]) for name, times in taken.items()}
