"""The test at start: do two clients in one pass get the gradients that each gets alone, the ordinary way?

Whatever a model does (reads a weight without calling its layer, mixes examples, takes two inputs) shows up here, on the
user's own model, data and loss, instead of in a wrong result.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch

from fedpeft.adapters import FlatAdapter
from fedpeft.adapters.seeded import seeded_torch
from fedpeft.errors import ClientFault, FedpeftError
from fedpeft.randomness.streams import Stream, derive
from fedpeft.training.batched.forward import forward_backward
from fedpeft.training.batched.mapped import Unbatchable
from fedpeft.training.batched.model import ClientAxis
from fedpeft.training.batched.seat import Seat
from fedpeft.training.batches import signature
from fedpeft.training.task import Task
from fedpeft.training.trainer import TrainingJob, batch_order
from fedpeft.types import FloatArray

SPREAD = 0.01
"""Standard deviation of what is added to θ: at LoRA's initial value, where B = 0, errors in A would not show."""

FLOOR = 0.01
"""A tensor whose gradient is a smaller share of the whole counts as if it were this share: some are pure rounding (of
a key's bias, which softmax cancels)."""


def examine(adapter: FlatAdapter, task: Task, job: TrainingJob) -> tuple[str, str] | None:
    """Whether this model and task can be trained many clients at a time.

    Args:
        adapter: the model; its θ is left as it was.
        task: what is trained.
        job: any client's; its first batch is used.

    Returns:
        why not, empty if they can; and what to know if they can, empty if there is nothing. None if this client's data
        give no answer, since their loss or its gradient is not finite.
    """
    before = adapter.get()
    axis = ClientAxis(adapter)
    try:
        adapter.set(job.start)
        prepared = task.prepare(adapter.model)
        own = _batch(job, task)
        batches = [own, _other_batch(job, task, own)]

        def seat(place: int) -> Seat:
            return _seat(place, job, task, prepared, adapter, batches[place])

        def gradients(*places: int) -> tuple[list[float], torch.Tensor]:
            losses, found, _ = forward_backward(axis, task, [seat(place) for place in places])
            return losses, found.clone()

        losses, together = gradients(0, 1)
        single = torch.cat([gradients(0)[1], gradients(1)[1]])
        alone = [_alone(axis, task, seat(place)) for place in (0, 1)]
    except ClientFault:
        return None
    except FedpeftError:
        raise
    except (Unbatchable, TypeError) as error:
        return str(error), ""
    except Exception as error:  # whatever it is: if it is the user's own, training alone meets it again
        return f"it fails with several clients: {_first_line(error)}", ""
    finally:
        adapter.set(before)
    if not all(math.isfinite(loss) and torch.isfinite(right).all() for loss, right in alone):
        return None
    fp32 = all(parameter.dtype != torch.bfloat16 for parameter in adapter.model.parameters())
    bound = 1e-4 if fp32 else 0.1
    for loss, mine, (own_loss, right) in zip(losses, together, alone, strict=True):
        apart = _apart(mine, right, adapter) if fp32 else float((mine - right).norm() / right.norm().clamp(min=1e-12))
        if not apart < bound:
            return f"gradients of two clients in one pass differ from each one's alone by {apart:.0e}", ""
        if not abs(loss - own_loss) < bound * max(abs(own_loss), 1e-3):
            return f"a client's loss is {loss:.6g} in one pass with another client, and {own_loss:.6g} alone", ""
    if not torch.equal(single, together):
        return "", "the last bits of a client's update depend on who shares its batch: this model mixes their rows"
    return "", ""


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0]}"[:200] if lines else type(error).__name__


def _batch(job: TrainingJob, task: Task) -> Any:
    return task.batch(job.data, _indices(job))


def _indices(job: TrainingJob) -> Any:
    """Of the client's first batch."""
    lengths = getattr(job.data, "lengths", None)
    return next(batch_order(job.plan.seed, len(job.data), job.plan.batch_size, 1, lengths))


def _other_batch(job: TrainingJob, task: Task, batch: Any) -> Any:
    """A batch of the same shape with another set of examples, where the client has any.

    What mixes examples (a mean over the batch) would go unseen between two batches that are equal.
    """
    indices = _indices(job)
    left = np.setdiff1d(np.arange(min(len(job.data), 64)), indices)[:2]
    for place in range(len(indices)):
        for other in [*left, indices[place - 1]]:
            changed = indices.copy()
            changed[place] = other
            candidate = task.batch(job.data, changed)
            if other != indices[place] and signature(candidate) == signature(batch):
                return candidate
    return batch


def _seat(place: int, job: TrainingJob, task: Task, prepared: Any, adapter: FlatAdapter, batch: Any) -> Seat:
    """A client of its own, with θ near the start."""
    seat = Seat(place, job, task, prepared, adapter.theta.device)
    noise = Stream(derive(job.plan.seed, "batched-check", place)).uniform(len(job.start))
    seat.theta.add_(torch.from_numpy((SPREAD * (noise - 0.5) * 12**0.5).astype(np.float32)).to(seat.theta))
    seat.batch = batch
    return seat


def _alone(axis: ClientAxis, task: Task, seat: Seat) -> tuple[float, torch.Tensor]:
    """Mean loss and gradient, shape (d,), by the model's own forward pass."""
    adapter = axis.adapter
    theta: FloatArray = seat.theta.cpu().numpy()
    adapter.set(theta)
    adapter.gradient.zero_()
    adapter.train(True)
    try:
        with seeded_torch(seat.plan.seed, adapter.theta.device):
            loss = task.outcomes(adapter.model, seat.batch, seat.prepared).losses.mean()
        loss.backward()  # type: ignore[no-untyped-call]
    finally:
        adapter.train(False)
    gradient = adapter.gradient.clone()
    adapter.gradient.zero_()
    return float(loss.detach()), gradient


def _apart(mine: torch.Tensor, right: torch.Tensor, adapter: FlatAdapter) -> float:
    """The largest relative error over the adapter's tensors."""
    floor = FLOOR * float(right.norm())
    errors = []
    for tensor in adapter.layout.tensors:
        place = slice(tensor.offset, tensor.offset + tensor.size)
        error = float((mine[place] - right[place]).norm())
        errors.append(error / max(float(right[place].norm()), floor, 1e-12))
    return max(errors)
