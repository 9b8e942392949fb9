"""Local objectives: the client half of a strategy, registered by name so that a plan can ask for one.

An objective adds to the gradient of the task's mean loss. It sees flat vectors, shape (d,), so the same code serves one
client or, with a leading axis, many. One that tells tensors apart is a `LayoutObjective`; one that also gets vectors
from the server, keeps some on its client or sends some back is a `ClientHalf`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol, cast, runtime_checkable

import torch

from fedpeft.types import FloatArray, Layout


class Objective(Protocol):
    """The contract of a local objective (registry kind `objective`); its constructor takes `Plan.objective_params`."""

    def add_gradient(self, gradient: torch.Tensor, theta: torch.Tensor, start: torch.Tensor) -> None:
        """Add this objective's gradient at θ to `gradient`, in place.

        Args:
            gradient: shape (..., d), fp32.
            theta: current parameters, shape (..., d).
            start: the parameters that the round started from, shape (..., d).
        """


class LayoutObjective(Objective, Protocol):
    """An objective that treats each tensor by itself. Optional: one without `fitted` sees a vector and no more.

    Layouts never travel: a client derives its own from the model.
    """

    def fitted(self, layout: Layout) -> Objective:
        """This objective for vectors of that layout. Called once, before `begin` of a client half."""


@runtime_checkable
class ClientHalf(Objective, Protocol):
    """An objective with a memory, or with vectors of its own on the wire. One is made for each client and round.

        received, memory ── begin ──> add_gradient, once a step ──> finish ── codec ──> what the server gets
                                                                               └─ remember ──> memory of this round

    All vectors have the adapter's shape (d,), fp32. The memory that counts is that of the last round that the server
    folded in, so a round that came to nothing leaves no trace, and a run that was killed goes on bit by bit.
    """

    receives: Sequence[str]  # names of vectors that come down beside θ; one that does not come is zero
    sends: Sequence[str]  # names of vectors that go up beside the delta, each in every reply
    remembers: Sequence[str]  # names of vectors that stay on the client's disk; zero before the first round

    def begin(self, received: Mapping[str, torch.Tensor], memory: Mapping[str, torch.Tensor]) -> None:
        """Called before the first step.

        Args:
            received: the vectors of `receives`, shape (..., d); not to be modified.
            memory: the vectors of `remembers`, shape (..., d); not to be modified.
        """

    def finish(self, steps: int) -> dict[str, torch.Tensor]:
        """Called after the last of `steps` steps; returns the vectors of `sends`, shape (..., d)."""

    def remember(
        self, memory: Mapping[str, FloatArray], sent: Mapping[str, FloatArray], delta: FloatArray
    ) -> dict[str, FloatArray]:
        """The memory after a round. Called on another object than trained, so it may depend on its arguments alone.

        Args:
            memory: the vectors of `remembers` as the round began, shape (d,); not to be modified.
            sent: those of `sends`, shape (d,), as the server decodes them: what a codec lost, both sides have lost.
            delta: what training changed, shape (d,), before any codec.
        """


def fitted(objective: Objective, layout: Layout) -> Objective:
    """The objective told which tensors the vector is made of, if it asks."""
    fit = getattr(objective, "fitted", None)
    made: Objective = objective if fit is None else fit(layout)
    return made


_HALVES: dict[type, bool] = {}
"""Whether a class is a `ClientHalf`: to look at all that a protocol names is slow, and every client would ask."""


def half_of(objective: Objective) -> ClientHalf | None:
    """The objective as a client half; None if it is none."""
    known = _HALVES.get(type(objective))
    if known is None:
        known = _HALVES[type(objective)] = isinstance(objective, ClientHalf)
    return cast(ClientHalf, objective) if known else None


__all__ = ["ClientHalf", "LayoutObjective", "Objective", "fitted", "half_of"]
