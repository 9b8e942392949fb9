"""How the gradient of one batch is made: at once or in micro-batches, in fp32 or in bf16, kept whole or computed twice.

None of it changes what is learnt by more than rounding. Micro-batches weigh as many examples as they have, so their sum
is the gradient of the batch's mean loss; checkpointing gives the same bits; autocast rounds products to 8 bits.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from fedpeft.adapters import FlatAdapter
from fedpeft.config import LocalTable
from fedpeft.training.checkpointing import blocks, checkpointed
from fedpeft.training.task import Task


class MicroBatches(list[tuple[Any, float]]):
    """A batch in parts, each with its share of the examples; the shares add up to 1."""


@dataclass(frozen=True, slots=True)
class StepSettings:
    """What `[local]` says of a step."""

    accumulate: int = 1  # micro-batches of a batch
    checkpointing: bool = False
    autocast: bool = False  # products in bf16

    @classmethod
    def of(cls, local: LocalTable) -> StepSettings:
        """From the run file."""
        return cls(local.accumulate, local.checkpointing, local.autocast == "bf16")

    @property
    def alone(self) -> str:
        """Why clients cannot be trained together under these settings; empty if they can."""
        if self.accumulate > 1:
            return f"local.accumulate = {self.accumulate} passes each client's batch in parts"
        if self.checkpointing:
            return "local.checkpointing = true computes each block a second time, for one client"
        return 'local.autocast = "bf16" is for one client at a time; model.dtype = "bf16" is for many' * self.autocast

    def check(self, adapter: FlatAdapter) -> None:
        """Raise `ConfigError` if this model cannot be trained so."""
        if self.checkpointing:
            blocks(adapter.model)

    def batch(self, task: Task, data: Any, indices: npt.NDArray[np.int64]) -> Any:
        """The examples at `indices`: one batch, or `MicroBatches` of nearly equal size."""
        if self.accumulate == 1:
            return task.batch(data, indices)
        parts = np.array_split(indices, min(self.accumulate, len(indices)))
        return MicroBatches((task.batch(data, part), len(part) / len(indices)) for part in parts)

    @contextlib.contextmanager
    def forward(self, device: torch.device) -> Iterator[None]:
        """In here the model's products are as the settings want them."""
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=self.autocast):
            yield

    def add_gradient(self, adapter: FlatAdapter, task: Task, batch: Any, prepared: Any) -> float:
        """Add the gradient of a batch's mean loss to `adapter.gradient`; returns that loss.

        Where the loss of a part is not finite it is returned at once, and the gradient means nothing.

        Args:
            adapter: holds θ.
            task: what is trained.
            batch: from `batch`.
            prepared: from `task.prepare`.
        """
        total = 0.0
        with checkpointed(adapter.model) if self.checkpointing else contextlib.nullcontext():
            for part, share in batch if isinstance(batch, MicroBatches) else [(batch, 1.0)]:
                with self.forward(adapter.theta.device):
                    loss = task.outcomes(adapter.model, part, prepared).losses.mean()
                value = float(loss.detach())
                if not np.isfinite(value):
                    return value
                (loss if share == 1.0 else share * loss).backward()  # type: ignore[no-untyped-call]
                total += share * value
        return total


PLAIN = StepSettings()
"""A whole batch at once, in the base's own dtype."""
