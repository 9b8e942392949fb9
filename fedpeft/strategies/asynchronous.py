"""Whether a strategy may be run asynchronously, checked before the run."""

from __future__ import annotations

from fedpeft.config import RunConfig
from fedpeft.errors import ConfigError
from fedpeft.strategies.base import Strategy


def check_asynchronous(config: RunConfig, strategy: Strategy) -> None:
    """Refuse `round.mode = "async"` with a strategy that needs a whole cohort of one version.

    Raises:
        ConfigError: code `config.strategy-async`.
    """
    if config.round.mode == "async" and not strategy.asynchronous:
        raise ConfigError(
            f'strategy.name = "{config.strategy.name}" cannot be run with round.mode = "async": '
            f"{type(strategy).__name__} needs replies that all started from the same version",
            code="config.strategy-async",
            allowed="a strategy whose class has asynchronous = True, such as fedbuff, fedavg or fedadam",
            remedy='choose one of these, or set round.mode = "sync"',
        )
