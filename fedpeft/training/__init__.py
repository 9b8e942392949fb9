"""Local training: tasks, objectives, optimizers, and the trainer that takes many clients at once."""

from fedpeft.training.task import Outcomes, Task, TaskContext
from fedpeft.training.trainer import SequentialTrainer, Trainer, TrainingJob, TrainingResult, batch_order, gradient_step

__all__ = [
    "Outcomes",
    "SequentialTrainer",
    "Task",
    "TaskContext",
    "Trainer",
    "TrainingJob",
    "TrainingResult",
    "batch_order",
    "gradient_step",
]
