"""SCAFFOLD's client half: local steps without the pull towards one's own data, by control variates.

Karimireddy et al. 2020, "SCAFFOLD: Stochastic Controlled Averaging for Federated Learning" (arXiv 1910.06378),
Algorithm 1. With x the round's θ, y the local parameters, K steps of size η, c the server's and c_i the client's
control variate:

    y ← y − η (g_i(y) − c_i + c)                    K times
    c_i⁺ = c_i − c + (x − y) / (K η)                option II
    sends Δy = y − x and Δc = c_i⁺ − c_i

Unrolled, (x − y) / η is the sum of the steps, so option II is c_i⁺ = (1/K) Σ_k g_i(y_k): the mean of the client's own
gradients along its way. That is what is computed here. Under plain SGD the two are equal but for rounding. Where a step
is more than η times a gradient (clipping, weight decay, AdamW), the paper's right-hand side would take the size of the
steps for gradients (under AdamW about 1 a coordinate, whatever the gradients are); the mean gradient stays one.

The client keeps c_i + Δĉ, with Δĉ what the codec made of Δc. So c_i moves by exactly what the server adds, and a lossy
codec needs no residual: what it lost is in the next Δc by itself (as in EF21, Richtárik et al. 2021, arXiv 2106.05203).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch

from fedpeft.types import FloatArray


class Scaffold:
    """Add c − c_i to the gradient; two more vectors of shape (d,) a client at work."""

    receives: ClassVar[tuple[str, ...]] = ("c",)
    sends: ClassVar[tuple[str, ...]] = ("c",)  # Δc
    remembers: ClassVar[tuple[str, ...]] = ("c_i",)

    def begin(self, received: Mapping[str, torch.Tensor], memory: Mapping[str, torch.Tensor]) -> None:
        """See `ClientHalf.begin`."""
        self._own = memory["c_i"]
        self._correction = received["c"] - memory["c_i"]
        self._sum = torch.zeros_like(self._correction)

    def add_gradient(self, gradient: torch.Tensor, theta: torch.Tensor, start: torch.Tensor) -> None:
        """See `Objective.add_gradient`. What arrives is g_i(y): it is summed before anything is added."""
        self._sum += gradient
        gradient += self._correction

    def finish(self, steps: int) -> dict[str, torch.Tensor]:
        """Δc = (1/K) Σ_k g_i(y_k) − c_i."""
        return {"c": self._sum / steps - self._own}

    def remember(
        self, memory: Mapping[str, FloatArray], sent: Mapping[str, FloatArray], delta: FloatArray
    ) -> dict[str, FloatArray]:
        """c_i⁺ = c_i + Δĉ."""
        return {"c_i": memory["c_i"] + sent["c"]}
