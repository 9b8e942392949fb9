"""The test at start: do two clients in one pass get the gradients that each gets alone, the ordinary way?

Whatever a model does (reads a weight without calling its layer, mixes examples, takes two inputs) shows up here, on the
user's own model, data and loss, instead of in a wrong result.
"""

from __future__ import annotations

import numpy as np
import torch

from fedpeft.adapters import FlatAdapter
from fedpeft.adapters.seeded import seeded_torch
from fedpeft.errors import ClientFault
from fedpeft.randomness.streams import Stream, derive
from fedpeft.training.batched.forward import forward_backward
from fedpeft.training.batched.mapped import Unbatchable
from fedpeft.training.batched.model import ClientAxis
from fedpeft.training.batched.seat import Seat
from fedpeft.training.task import Task
from fedpeft.training.trainer import TrainingJob
from fedpeft.types import FloatArray

SPREAD = 0.01
"""Standard deviation of what is added to θ: at LoRA's initial value, where B = 0, errors in A would not show."""


def examine(adapter: FlatAdapter, task: Task, job: TrainingJob) -> tuple[str, str]:
    """Whether this model and task can be trained many clients at a time.

    Args:
        adapter: the model; its θ is left as it was.
        task: what is trained.
        job: any client's; its first batch is used.

    Returns:
        why not, empty if they can; and what to know if they can, empty if there is nothing.
    """
    before = adapter.get()
    axis = ClientAxis(adapter)
    try:
        adapter.set(job.start)
        prepared = task.prepare(adapter.model)
        seats = [_seat(place, job, task, prepared, adapter) for place in range(2)]
        together = forward_backward(axis, task, seats)[1].clone()
        single = forward_backward(axis, task, seats[:1])[1].clone()
        alone = [_alone(axis, task, seat) for seat in seats]
    except ClientFault:  # of this client's data: nothing is known, and nothing wrong
        return "", ""
    except (Unbatchable, TypeError) as error:
        return str(error), ""
    except (RuntimeError, ValueError, IndexError) as error:
        return f"it fails with several clients: {str(error).splitlines()[0]}", ""
    finally:
        adapter.set(before)
    fp32 = all(parameter.dtype != torch.bfloat16 for parameter in adapter.model.parameters())
    bound = 1e-4 if fp32 else 0.1
    for mine, right in zip(together, alone, strict=True):
        apart = float((mine - right).norm() / right.norm().clamp(min=1e-12))
        if not apart < bound:
            return f"gradients of two clients in one pass differ from each one's alone by {apart:.0e}", ""
    if not torch.equal(single[0], together[0]):
        return "", "the last bits of a client's update depend on who shares its batch: this model mixes their rows"
    return "", ""


def _seat(place: int, job: TrainingJob, task: Task, prepared: object, adapter: FlatAdapter) -> Seat:
    seat = Seat(place, job, task, prepared, adapter.theta.device)
    noise = Stream(derive(job.plan.seed, "batched-check", place)).uniform(len(job.start))
    seat.theta.add_(torch.from_numpy((SPREAD * (noise - 0.5) * 12**0.5).astype(np.float32)).to(seat.theta))
    seat.advance()
    return seat


def _alone(axis: ClientAxis, task: Task, seat: Seat) -> torch.Tensor:
    """The gradient by the model's own forward pass, shape (d,)."""
    adapter = axis.adapter
    theta: FloatArray = seat.theta.cpu().numpy()
    adapter.set(theta)
    adapter.gradient.zero_()
    adapter.train(True)
    try:
        with seeded_torch(seat.plan.seed, adapter.theta.device):
            losses = task.outcomes(adapter.model, seat.batch, seat.prepared).losses
        losses.mean().backward()  # type: ignore[no-untyped-call]
    finally:
        adapter.train(False)
    gradient = adapter.gradient.clone()
    adapter.gradient.zero_()
    return gradient
