"""Which trainer serves a model and a task: many clients in one pass where that is possible, else one at a time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from fedpeft.adapters import FlatAdapter
from fedpeft.training.batched import BatchedTrainer, examine
from fedpeft.training.steps import PLAIN, StepSettings
from fedpeft.training.task import Task
from fedpeft.training.trainer import SequentialTrainer, Trainer, TrainingJob


@dataclass(frozen=True, slots=True)
class TrainerChoice:
    """Whether clients are trained together, and what to tell people about it."""

    together: bool
    note: str = ""  # why not, or what to know; empty when there is nothing to tell


def choose_trainer(
    wanted: str, adapter: FlatAdapter, task: Task, *jobs: TrainingJob, settings: StepSettings = PLAIN
) -> TrainerChoice:
    """Try two clients in one pass.

    Args:
        wanted: "batched" or "sequential", as the run file says.
        adapter: the model; its θ is left as it was.
        task: what is trained.
        jobs: of any clients; the first batch of the first one is used, of the next where that gives no answer.
        settings: of each step.

    Raises:
        ConfigError: this model cannot be trained under these settings.
    """
    settings.check(adapter)
    if wanted == "sequential":
        return TrainerChoice(False)
    if settings.alone:
        return TrainerChoice(False, f"clients are trained one at a time: {settings.alone}")
    for job in jobs:
        answer = examine(adapter, task, job)
        if answer is not None:
            trouble, note = answer
            if trouble:
                return TrainerChoice(False, f"clients are trained one at a time: {trouble}")
            return TrainerChoice(True, note)
    return TrainerChoice(False, "clients are trained one at a time: the loss of those tried is not finite")


def make_trainer(
    choice: TrainerChoice,
    adapter: FlatAdapter,
    task: Task,
    *,
    rows: int,
    memory: int,
    on_step: Callable[[], None] | None = None,
    settings: StepSettings = PLAIN,
) -> Trainer:
    """The trainer that was chosen; for `rows` and `memory` see `BatchedTrainer`."""
    if choice.together:
        return BatchedTrainer(adapter, task, on_step, rows=rows, memory=memory)
    return SequentialTrainer(adapter, task, on_step, settings)
