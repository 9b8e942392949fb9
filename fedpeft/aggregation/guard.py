"""The update guard: what one client sends after decoding, checked before it may touch the model.

A plain weighted mean believes everything: one NaN makes the model NaN, one claim of 1e15 examples makes it that
client's model, an array of one element is silently broadcast over all. The guard turns each of these into a named fault
of that client, and the round goes on without it.
"""

from __future__ import annotations

import math
from typing import NamedTuple, NoReturn

import numpy as np

from fedpeft.aggregation.choice import best_passes
from fedpeft.aggregation.passes import Passes, passable
from fedpeft.errors import ClientFault
from fedpeft.types import ClientInfo, Coded, FloatArray, Update


class Passed(NamedTuple):
    """What the guard found of an update that it lets pass."""

    weight: float  # to fold it with, finite and > 0
    norm: float  # L2 norm of the delta, finite


class UpdateGuard:
    """Checks shape, weight, finiteness and norm of an update, cheapest first.

    Args:
        size: number of elements d that the layout of this run has.
        max_norm: largest L2 norm of a delta, > 0.
        max_examples: largest weight that any client may claim, > 0.
        passes: how to compute norms; the fastest there is by default.

    Raises:
        ValueError: a limit that is not positive.
    """

    def __init__(self, size: int, max_norm: float, max_examples: float, *, passes: Passes | None = None) -> None:
        for name, value in (("size", size), ("max_norm", max_norm), ("max_examples", max_examples)):
            if not value > 0:
                raise ValueError(f"{name} = {value} must be above 0")
        self.size = size
        self.max_norm = float(max_norm)
        self.max_examples = float(max_examples)
        self._passes = passes or best_passes()

    def check(self, update: Update, info: ClientInfo) -> Passed:
        """Let an update pass, or refuse it.

        Args:
            update: from this client; not modified. One of int8 codes is not decoded for this.
            info: what the client said in its hello; its `examples` bound the weight.

        Returns:
            its weight and norm.

        Raises:
            ClientFault: code `guard.shape`, `guard.weight`, `guard.not-finite` or `guard.norm`; the message names the
                client, the value and the limit.
        """
        self._check_shape(update)
        weight = self._check_weight(update, info)
        return Passed(weight, self._check_norm(update))

    def _check_shape(self, update: Update) -> None:
        coded, found = update.coded, ""
        if coded is None:
            delta = update.delta
            if delta.dtype != np.float32 or delta.shape != (self.size,):
                found = f"{delta.dtype} of shape {delta.shape}"
        elif coded.size != self.size:
            found = f"codes of {coded.size} values"
        if found:
            _refuse(
                update,
                "shape",
                f"its delta is {found}",
                f"float32 of shape ({self.size},)",
                "check that its adapter is that of this run",
            )

    def _check_weight(self, update: Update, info: ClientInfo) -> float:
        weight = float(update.weight)
        limit = min(float(info.examples), self.max_examples)
        if not 0 < weight <= limit:  # NaN fails too
            _refuse(
                update,
                "weight",
                f"it claims a weight of {weight:g}",
                f"above 0 and at most {limit:g} (it declared {info.examples} examples; "
                f"limits.max_examples = {self.max_examples:g})",
                "check how the client counts its examples",
            )
        return weight

    def _check_norm(self, update: Update) -> float:
        norm = math.sqrt(self._passes.squared_norm(passable(update.foldable)))
        if not math.isfinite(norm):
            bad = int(np.flatnonzero(~np.isfinite(update.delta))[0])
            _refuse(
                update,
                "not-finite",
                f"delta[{bad}] = {update.delta[bad]}",
                "finite numbers",
                "lower the client's learning rate, or check its device",
            )
        if norm > self.max_norm:
            _refuse(
                update,
                "norm",
                f"its delta has L2 norm {norm:.6g}",
                f"at most limits.max_update_norm = {self.max_norm:g}",
                "lower the learning rate, or raise limits.max_update_norm if such deltas are honest",
            )
        return norm


def l2_norm(delta: FloatArray | Coded) -> float:
    """‖Δ‖₂ in float64: no overflow for any finite fp32 vector; NaN or inf if and only if an element is."""
    return math.sqrt(best_passes().squared_norm(passable(delta)))


def _refuse(update: Update, what: str, found: str, allowed: str, remedy: str) -> NoReturn:
    raise ClientFault(
        f"client {update.client}, round {update.round}: {found}", code=f"guard.{what}", allowed=allowed, remedy=remedy
    )
