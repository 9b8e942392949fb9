"""What a step measures: the loss, or the share of wrong answers, which has no gradient and needs none here."""

from __future__ import annotations

import torch

from fedpeft.errors import ConfigError
from fedpeft.training.task import Outcomes


def measured(outcomes: Outcomes, objective: str) -> torch.Tensor:
    """The value of each example, shape (n,), fp32: its loss, or 1 − its accuracy.

    Args:
        outcomes: of a batch.
        objective: "loss" or "error".

    Raises:
        ConfigError: "error", and the task's outcomes do not say what was right.
    """
    if objective == "loss":
        return outcomes.losses
    if "accuracy" not in outcomes.scores:
        raise ConfigError(
            f'zeroth.objective = "{objective}", but what the task says of a training batch has no accuracy',
            code="config.zeroth-objective",
            allowed="a task whose outcomes have one: label-names, linear-head, images, or one of your own",
            remedy='set zeroth.objective = "loss"; a loss of your own may return any number for each example, e.g. '
            "1 where the answer is wrong",
        )
    return 1.0 - outcomes.scores["accuracy"]
