"""Which trainer a run file's `[engine]` asks for: in this process, in several, or on Ray."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from fedpeft.config import RunConfig
from fedpeft.errors import ConfigError
from fedpeft.simulation.federation import Federation
from fedpeft.simulation.own import OWN_OBJECTS
from fedpeft.simulation.workers.processes import Processes, can_fork
from fedpeft.simulation.workers.spread import SpreadTrainer
from fedpeft.simulation.workers.workshop import Workshop
from fedpeft.training import Trainer


@contextmanager
def open_trainer(
    federation: Federation, on_step: Callable[[], None], tell: Callable[[str], None]
) -> Iterator[tuple[Trainer, int]]:
    """The trainer of a run, and how many workers it has; they end with the context.

    Args:
        federation: nothing in it has been trained yet.
        on_step: called after each optimizer step of a client.
        tell: called with a sentence about each worker that was lost.

    Raises:
        ConfigError: the run cannot be spread as the run file asks.
    """
    config, workers = federation.config, worker_count(federation.config)

    def home() -> Trainer:
        return federation.trainer(on_step)

    if config.engine.name == "local" and workers == 1:
        yield home(), 1
        return
    workshop: Workshop
    if config.engine.name == "ray":
        from fedpeft.simulation.workers.on_ray import OnRay

        if config.model.source == OWN_OBJECTS:
            raise _cannot_assemble('engine.name = "ray"')
        workshop = OnRay(config, federation.trainer_choice.together, workers)
    else:
        fork = can_fork()
        if not fork and config.model.source == OWN_OBJECTS:
            raise _cannot_assemble(f"engine.workers = {workers}, where a process cannot be forked")
        workshop = Processes(federation, fork=fork)
    with SpreadTrainer(workshop, workers, home, on_step, tell) as trainer:
        yield trainer, workers


def worker_count(config: RunConfig) -> int:
    """How many workers a run has: "auto" is one a core, less one for the centralised comparison beside the run."""
    if isinstance(config.engine.workers, int):
        return config.engine.workers
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    beside = config.evaluation.centralised and config.model.source != OWN_OBJECTS
    return max(1, cores - beside)


def _cannot_assemble(what: str) -> ConfigError:
    return ConfigError(
        f"{what}: a worker has to assemble the run file, and this federation is made of Python objects",
        code="config.own-objects",
        allowed='engine.name = "local" with engine.workers = 1, or, on Linux without CUDA, with more workers',
        remedy="set it so, or describe model and data in a run file",
    )
