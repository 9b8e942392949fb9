"""What a run without gradients whose clients send deltas is made of, beside what all zeroth-order runs are made of."""

from __future__ import annotations

from fedpeft.config import RunConfig
from fedpeft.errors import ConfigError
from fedpeft.registry import Kind, load
from fedpeft.strategies import Strategy
from fedpeft.training.zeroth.local import LocalOptimizer


def sends_delta(config: RunConfig) -> bool:
    """Whether clients send deltas that no gradient went into."""
    return config.zeroth is not None and config.zeroth.sends == "delta"


def optimizer_kind(config: RunConfig) -> Kind:
    """The registry kind of `local.optimizer`: those that need no gradient are a kind of their own."""
    return "zeroth_optimizer" if sends_delta(config) else "optimizer"


def check_local(config: RunConfig, strategy: Strategy) -> None:
    """See whether such a run can be what its file says, before anything slow is loaded.

    Raises:
        PluginError: there is no such optimizer.
        ConfigError: the optimizer is none; the strategy's client half works on gradients.
    """
    _optimizer(config)
    if strategy.objective != "plain":
        raise ConfigError(
            f'strategy.name = "{config.strategy.name}" contradicts the table [zeroth]: its client half works on '
            "gradients, and there are none",
            code="config.zeroth-strategy",
            allowed="strategies without one, e.g. fedavg, fedavgm, fedbuff, fedadam, fedyogi, fedadagrad, fedsa, ffa",
            remedy='set strategy.name = "fedavg", or remove [zeroth]',
        )


def held(config: RunConfig, directions: int) -> tuple[int, int]:
    """What a client holds beside the model in a step: directions, and vectors of θ's size of its optimizer.

    Args:
        config: of a zeroth-order run of either kind.
        directions: that the estimator looks along.
    """
    if not sends_delta(config):
        return directions, 0
    optimizer = _optimizer(config)
    return optimizer.draws * directions, optimizer.vectors


def delta_note(config: RunConfig, size: int) -> str:
    """What clients send, `size` values, and keep, in words."""
    _, vectors = held(config, 0)
    state = f"{4 * vectors} bytes a weight" if vectors else "no state"
    return f"clients send deltas of {size:,} weights; {config.local.optimizer} keeps {state} on each"


def _optimizer(config: RunConfig) -> type[LocalOptimizer]:
    """The class behind `local.optimizer`."""
    found = load("zeroth_optimizer", config.local.optimizer)
    lacking = [name for name in ("draws", "vectors", "look", "move") if not hasattr(found, name)]
    if lacking:
        raise ConfigError(
            f'local.optimizer = "{config.local.optimizer}" is no LocalOptimizer: it has no {", ".join(lacking)}',
            code="config.not-an-optimizer",
            allowed="a class with the attributes of fedpeft.training.zeroth.local.LocalOptimizer",
            remedy="add what it lacks, or name another class",
        )
    kind: type[LocalOptimizer] = found
    return kind
