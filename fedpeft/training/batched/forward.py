"""One pass: losses and gradients of several clients' next batches."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence

import torch

from fedpeft.training.batched.mapped import Unbatchable
from fedpeft.training.batched.model import ClientAxis
from fedpeft.training.batched.seat import Generators, Seat
from fedpeft.training.batches import join
from fedpeft.training.storage import storages
from fedpeft.training.task import Task


def forward_backward(
    axis: ClientAxis, task: Task, seats: Sequence[Seat], *, measure: bool = False
) -> tuple[list[float], torch.Tensor, int | None]:
    """Each client's mean loss, and its gradient.

    Args:
        axis: the model.
        task: what is trained.
        seats: the clients, with batches of one shape.
        measure: also count the bytes that autograd keeps for the backward pass.

    Returns:
        the N losses; gradients, shape (N, d), valid until the next pass, zero where a loss is not finite; the bytes.

    Raises:
        Unbatchable: the model or the task cannot serve several clients.
    """
    theta, gradient = axis.rows_of(len(seats))
    torch.stack([seat.theta for seat in seats], out=theta)
    gradient.zero_()
    held = _Held() if measure else None
    axis.adapter.train(True)
    try:
        with axis.serving(len(seats), Generators(seats)), held or contextlib.nullcontext():
            outcomes = task.outcomes(axis.adapter.model, join([seat.batch for seat in seats]), seats[0].prepared)
        losses = outcomes.losses
        if losses.ndim != 1 or len(losses) % len(seats) or (losses.stride(0) == 0 and len(losses) > 1):
            raise Unbatchable("the task's loss is one mean over a batch, not a loss per example")
        means = losses.reshape(len(seats), -1).mean(1)
        values = means.detach()
        finite = torch.isfinite(values)
        (means if finite.all() else means[finite]).sum().backward()  # type: ignore[no-untyped-call]
    finally:
        axis.adapter.train(False)
    if not finite.all():
        gradient[~finite] = 0.0
    return values.tolist(), gradient, held.bytes if held is not None else None


class _Held(torch.autograd.graph.saved_tensors_hooks):
    """Counts what autograd keeps, once per storage."""

    def __init__(self) -> None:
        self._storages: dict[int, int] = {}
        super().__init__(self._keep, lambda tensor: tensor)

    def _keep(self, tensor: torch.Tensor) -> torch.Tensor:
        self._storages.update(storages(tensor))
        return tensor

    @property
    def bytes(self) -> int:
        return sum(self._storages.values())
