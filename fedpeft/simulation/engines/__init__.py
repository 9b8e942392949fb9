"""Where a run's clients live: `engine.name`.

    local       in this process or its workers, on a virtual clock: the engine of simulations (`simulation/local.py`)
    ray         the same, trained by actors on a Ray cluster (`simulation/workers/on_ray.py`)
    flower      virtual nodes of Flower's own simulation runtime; its actors on Ray run the ClientApp
    superlink   a SuperLink, with nodes that have keys of their own, over TLS: a deployment on this machine

ServerApp, ClientApp, coordinator and agent are the same in all of them, and so is the adapter that a seed ends in.

    coordinate  the coordinator over any of Flower's Grids, on the machine's clock
    credentials keys and certificates for one run on one machine
    household   processes that end with this one, however it ends; each is run by `watched`
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # `watched` starts from this package, and should bring no torch into a SuperLink
    from fedpeft.journal import Journal
    from fedpeft.simulation.federation import Federation
    from fedpeft.types import FloatArray


def run_engine(
    federation: Federation, journal: Journal, on_examples: Callable[[float], None]
) -> tuple[FloatArray, dict[str, Any]]:
    """Run the federation on the engine that its run file names; as `run_local`.

    Raises:
        ConfigError: the engine needs a run file, and the federation is made of Python objects.
    """
    from fedpeft.errors import ConfigError
    from fedpeft.simulation.own import OWN_OBJECTS

    name = federation.config.engine.name
    if name in ("local", "ray"):
        from fedpeft.simulation.local import run_local

        return run_local(federation, journal, on_examples)
    if federation.config.model.source == OWN_OBJECTS:
        raise ConfigError(
            f'engine.name = "{name}": its clients assemble the run file, and this federation is made of Python objects',
            code="config.own-objects",
            allowed='engine.name = "local"',
            remedy="set it so, or describe model and data in a run file",
        )
    if name == "flower":
        from fedpeft.simulation.engines.flower import run_flower

        return run_flower(federation, journal, on_examples)
    from fedpeft.simulation.engines.superlink import run_superlink

    return run_superlink(federation, journal, on_examples)
