"""The test at start: do two clients in one pass get the losses that each gets alone, the ordinary way?

As `fedpeft.training.batched.check`, by forward passes alone: whoever trains without gradients may have no memory for
one. The points of a step lie off the initial value in every weight, so nothing hides behind LoRA's B = 0.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from fedpeft.errors import ClientFault, FedpeftError
from fedpeft.training.batched.mapped import Unbatchable
from fedpeft.training.batches import signature
from fedpeft.training.trainer import TrainingJob, batch_order
from fedpeft.training.zeroth.batched import BatchedZerothTrainer, ZerothSeat
from fedpeft.training.zeroth.objective import measured
from fedpeft.training.zeroth.trainer import ZerothTrainer
from fedpeft.training.zeroth.walk import walk_of
from fedpeft.types import ClientId

BOUND = 1e-4
"""Relative error of a loss: more than rounding makes, less than another client's examples would."""


def examine_losses(trainer: BatchedZerothTrainer, job: TrainingJob) -> tuple[str, str] | None:
    """Whether this model and task can measure for many clients at a time.

    Args:
        trainer: its adapter's θ is left as it was.
        job: any client's; its first batch is used.

    Returns:
        why not, empty if they can; and what to know if they can, empty if there is nothing. None if this client's data
        give no answer, since their loss is not finite.
    """
    before = trainer.adapter.get()
    try:
        other = replace(job, plan=replace(job.plan, client=ClientId(f"{job.plan.client}'"), seed=job.plan.seed ^ 1))
        seats = [trainer.seat(place, one) for place, one in enumerate((job, other))]
        if signature(seats[1].batch) != signature(seats[0].batch):
            seats[1].batch = seats[0].batch
        together = trainer.losses(seats)
        single = torch.cat([trainer.losses([seat]) for seat in seats])
        alone = np.array([_alone(trainer, seat) for seat in seats])
    except ClientFault:
        return None
    except FedpeftError:
        raise
    except (Unbatchable, TypeError) as error:
        return str(error), ""
    except Exception as error:  # whatever it is: if it is the user's own, training alone meets it again
        lines = str(error).strip().splitlines() or [""]
        return f"it fails with several clients: {type(error).__name__}: {lines[0]}"[:200], ""
    finally:
        trainer.adapter.set(before)
    if not np.isfinite(alone).all():
        return None
    wrong = np.abs(together.numpy() - alone) > BOUND * np.maximum(np.abs(alone), 1e-3)
    if wrong.any():
        place = tuple(np.argwhere(wrong)[0])
        found = f"{together.numpy()[place]:.6g} in one pass with another client, and {alone[place]:.6g} alone"
        return f"a client's loss is {found}", ""
    if not torch.equal(single, together):
        return "", "the last bits of a client's scalars depend on who shares its batch: this model mixes their rows"
    return "", ""


def examine_alone(trainer: ZerothTrainer, job: TrainingJob) -> None:
    """Measure what one step asks for, before the run: is there such an objective, and are there such slopes?

    Args:
        trainer: its adapter's θ is left as it was.
        job: any client's; its first batch is used.

    Raises:
        ConfigError: the task has no such objective.
        ModelError: a part of the model has no forward-mode derivative.
    """
    before = trainer.adapter.get()
    try:
        record = trainer.records(job, trainer.replica, trainer.settings)
        trainer.adapter.set(record.start())
        indices = next(batch_order(job.plan.seed, len(job.data), job.plan.batch_size, 1))
        with torch.no_grad():
            prepared = trainer.task.prepare(trainer.adapter.model)
            batch = trainer.task.batch(job.data, indices)
            trainer.values(walk_of(trainer.adapter.theta), record.look(), batch, prepared)
    except ClientFault:
        return  # of this client's data: it is met again, and costs that client
    finally:
        trainer.adapter.set(before)


def _alone(trainer: BatchedZerothTrainer, seat: ZerothSeat) -> list[float]:
    """The mean loss at each point, by the model's own forward pass."""
    losses = []
    for row in trainer.rows(seat):
        trainer.adapter.set(row.cpu().numpy())
        with torch.no_grad():
            outcomes = trainer.task.outcomes(trainer.adapter.model, seat.batch, seat.prepared)
            found = measured(outcomes, trainer.settings.objective)
        losses.append(float(found.cpu().double().mean()))
    return losses
