"""What a zeroth-order run is made of: its replica, its settings, and what to tell people about them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from fedpeft.config import RunConfig
from fedpeft.errors import ConfigError
from fedpeft.registry import Kind, build, load
from fedpeft.simulation.placing import pass_limits
from fedpeft.strategies import Strategy
from fedpeft.training import Trainer, TrainingJob
from fedpeft.training.choice import TrainerChoice
from fedpeft.training.zeroth.batched import BatchedZerothTrainer
from fedpeft.training.zeroth.check import examine_losses
from fedpeft.training.zeroth.estimators import Estimator
from fedpeft.training.zeroth.local import LocalOptimizer
from fedpeft.training.zeroth.local.record import LocalRecord
from fedpeft.training.zeroth.record import Record, ZerothSettings
from fedpeft.training.zeroth.trainer import ZerothTrainer
from fedpeft.types import FloatArray
from fedpeft.zeroth.coordinates import Coordinates
from fedpeft.zeroth.replica import Replica

if TYPE_CHECKING:
    from fedpeft.simulation.federation import Federation


def check_scalars(config: RunConfig, strategy: Strategy) -> None:
    """See whether a zeroth-order run can be what its file says, before anything slow is loaded.

    Raises:
        PluginError: the pool or the estimator refuses its parameters.
        ConfigError: the strategy's client half works on gradients, or the optimizer is none.
    """
    table = config.zeroth
    if table is None:
        return
    build("pool", table.pool, {"size": table.size, "seed": config.run.seed})
    make_settings(config)
    local = table.sends == "delta"
    if local:
        _local_optimizer(config)
    if strategy.objective != "plain" or (not local and (strategy.private or strategy.frozen)):
        raise ConfigError(
            f'strategy.name = "{config.strategy.name}" contradicts the table [zeroth]: its client half works on '
            f"gradients{'' if local else ' or on single tensors'}, and there are none",
            code="config.zeroth-strategy",
            allowed="strategies that fold updates only: fedavg, fedavgm, fedbuff, sign-vote, "
            + (
                "fedadam, fedyogi, fedadagrad, and fedsa and ffa"
                if local
                else "and fedadam, fedyogi and fedadagrad with a learning rate that counts in coefficients"
            ),
            remedy='set strategy.name = "fedavg", or remove [zeroth]',
        )


def optimizer_kind(config: RunConfig) -> Kind:
    """The registry kind of `local.optimizer`: those that need no gradient are a kind of their own."""
    return "zeroth-optimizer" if config.zeroth is not None and config.zeroth.sends == "delta" else "optimizer"


def _local_optimizer(config: RunConfig) -> type[LocalOptimizer]:
    """The class behind `local.optimizer` of a run that sends deltas."""
    found = load("zeroth-optimizer", config.local.optimizer)
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


def held(config: RunConfig) -> tuple[int, int]:
    """What a client holds beside the model in a step: directions, and vectors of θ's size of its optimizer."""
    directions = make_settings(config).estimator.directions
    if optimizer_kind(config) == "optimizer":
        return directions, 0
    optimizer = _local_optimizer(config)
    return optimizer.draws * directions, optimizer.vectors


def make_settings(config: RunConfig) -> ZerothSettings:
    """Of each local step."""
    table = config.zeroth
    assert table is not None
    estimator: Estimator = build("estimator", table.estimator.name, table.estimator.params)
    return ZerothSettings(estimator, table.perturbation, table.clip, table.scalars == "sign")


def make_replica(config: RunConfig, initial: FloatArray) -> Replica | None:
    """The replica of a zeroth-order run by scalars; None of any other.

    Args:
        config: the run file.
        initial: θ_0, shape (d,).
    """
    return _replica(config, initial) if config.zeroth is not None and config.zeroth.sends == "scalars" else None


def _replica(config: RunConfig, initial: FloatArray) -> Replica:
    """As `make_replica`; of a run by deltas too, which asks it for directions alone."""
    table = config.zeroth
    assert table is not None
    coordinates = Coordinates(
        size=table.size,
        epochs=table.epochs(config.run.rounds),
        refresh=table.refresh,
        unit=config.local.learning_rate * 2.0**-table.resolution,
        directions=make_settings(config).estimator.directions,
        seed=config.run.seed,
        shared=table.draws == "round",
    )
    pool = build("pool", table.pool, {"size": table.size, "seed": config.run.seed})
    own = table.estimator
    rules = (
        f"{own.name.rpartition(':')[2]}:{sorted(own.params.items())}:{table.perturbation}:{table.clip}:{table.scalars}"
    )
    return Replica(initial, pool, coordinates, rules)


def choose_zeroth_trainer(federation: Federation, jobs: Sequence[TrainingJob]) -> TrainerChoice:
    """Try two clients in one forward pass, unless the weights of two at all points of a step are too many.

    Args:
        federation: of the run.
        jobs: of any clients; the first batch of the first one is used, of the next where that gives no answer.
    """
    config, points = federation.config, len(make_settings(federation.config).estimator.points)
    _, vectors = held(config)
    if config.engine.trainer == "sequential":
        return TrainerChoice(False)
    alone, weights = "clients are trained one at a time: ", 4 * federation.adapter.layout.size
    if 2 * (2 * points + vectors) * weights > config.engine.memory_mb * 1_000_000:
        state = f", and {vectors} times that for its optimizer" if vectors else ""
        note = f"each would need its own {weights / 1e6:.0f} MB of trained weights for every point of a step{state}"
        return TrainerChoice(False, f"{alone}{note} (engine.memory_mb = {config.engine.memory_mb})")
    for job in jobs:
        answer = examine_losses(_batched(federation, None), job)
        if answer is not None:
            trouble, note = answer
            return TrainerChoice(False, alone + trouble) if trouble else TrainerChoice(True, note)
    return TrainerChoice(False, f"{alone}the loss of those tried is not finite")


def make_zeroth_trainer(federation: Federation, on_step: Callable[[], None] | None) -> Trainer:
    """The trainer of a zeroth-order run; `on_step` is called after each step of a client."""
    if federation.trainer_choice.together:
        return _batched(federation, on_step)
    return ZerothTrainer(federation.adapter, federation.task, *_rules(federation), on_step, _records(federation))


def _batched(federation: Federation, on_step: Callable[[], None] | None) -> BatchedZerothTrainer:
    rows, memory = pass_limits(federation.config, federation.adapter.theta.device)
    about = (federation.adapter, federation.task, *_rules(federation), on_step, _records(federation))
    return BatchedZerothTrainer(*about, rows=rows, memory=memory, vectors=held(federation.config)[1])


def _rules(federation: Federation) -> tuple[Replica, ZerothSettings]:
    replica = federation.replica or _replica(federation.config, federation.initial)
    return replica, make_settings(federation.config)


def _records(federation: Federation) -> type[Record]:
    return Record if federation.replica is not None else LocalRecord


def zeroth_notes(federation: Federation) -> list[str]:
    """What a person should know of a zeroth-order run before it begins."""
    config = federation.config
    table = config.zeroth
    if table is None:
        return []
    points, (_, vectors) = len(make_settings(config).estimator.points), held(config)
    count = table.epochs(config.run.rounds)
    epochs = f", {count} epochs of {table.refresh} rounds" if count > 1 else ""
    words = f"no gradients: {points} forward passes a step; {table.size} {table.pool} directions{epochs}"
    if table.sends == "scalars":
        return [f"{words}; clients send scalars and rebuild the model from coefficients"]
    state = f"{4 * vectors} bytes a weight" if vectors else "no state"
    size = federation.sharing.shared.size
    return [f"{words}; clients send deltas of {size:,} weights; {config.local.optimizer} keeps {state} on each"]
