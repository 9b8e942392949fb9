"""Examples that clients put aside to judge by: drawn once, for every engine and whoever trains, and what they cost."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from fedpeft.codecs.searching import is_searching
from fedpeft.config import RunConfig
from fedpeft.data.holdout import split_places
from fedpeft.registry import build
from fedpeft.simulation.devices import EVALUATION_STEP
from fedpeft.training import Task
from fedpeft.types import ClientId

if TYPE_CHECKING:
    from fedpeft.simulation.federation import Federation


def put_aside(
    config: RunConfig, task: Task, train: Mapping[ClientId, Any]
) -> tuple[Mapping[ClientId, Any], Mapping[ClientId, Any]]:
    """Split what each client has to train on by `codec.validation`.

    The run's seed and the client's name fix which examples, whatever the other clients hold. A client with two or more
    puts aside at least one and trains on at least one; one with a single example trains on it and puts nothing aside.

    Args:
        config: the run file.
        task: knows how to cut a data set.
        train: of each client, as `Task.encode` returned it.

    Returns:
        what each client trains on, and its validation examples; of a client that has none there is no entry.
    """
    share = config.codec.validation
    if share == 0:
        return train, {}
    left, aside = {}, {}
    for client, data in train.items():
        own, kept = split_places(len(data), share, seed=config.run.seed, client=client, what_for="validation")
        left[client] = task.select(data, own) if kept else data
        if kept:
            aside[client] = task.select(data, kept)
    return left, aside


def search_steps(federation: Federation, codec: str, examples: float) -> float:
    """Local steps that a codec's search takes as long as: 0 where it searches nothing.

    Args:
        federation: ready to run.
        codec: as a plan names it.
        examples: that a candidate is judged on.
    """
    made = build("codec", codec, {})
    if not examples or not is_searching(made):
        return 0.0
    return made.looks * EVALUATION_STEP * examples / federation.config.local.batch_size
