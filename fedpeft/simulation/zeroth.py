"""What a zeroth-order run is made of: its replica, its settings, and what to tell people about them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from fedpeft.config import RunConfig
from fedpeft.errors import ConfigError
from fedpeft.registry import build
from fedpeft.simulation.placing import pass_limits
from fedpeft.simulation.pools import drawn_pool, make_pool, pool_notes
from fedpeft.strategies import Strategy
from fedpeft.training import Trainer, TrainingJob
from fedpeft.training.choice import TrainerChoice
from fedpeft.training.zeroth.batched import BatchedZerothTrainer
from fedpeft.training.zeroth.check import examine_losses
from fedpeft.training.zeroth.estimators import Estimator
from fedpeft.training.zeroth.record import ZerothSettings
from fedpeft.training.zeroth.trainer import ZerothTrainer
from fedpeft.types import FloatArray, Layout
from fedpeft.zeroth.coordinates import Coordinates
from fedpeft.zeroth.importance import MOST
from fedpeft.zeroth.replica import Replica

if TYPE_CHECKING:
    from fedpeft.simulation.federation import Federation


def check_scalars(config: RunConfig, strategy: Strategy) -> None:
    """See whether a zeroth-order run can be what its file says, before anything slow is loaded.

    Raises:
        PluginError: the pool or the estimator refuses its parameters.
        ConfigError: the strategy's client half works on gradients, or it compares what cannot be compared; a pool of so
            many blocks cannot be; too many directions to draw them by importance.
    """
    table = config.zeroth
    if table is None:
        return
    drawn_pool(config)
    make_settings(config)
    if strategy.objective != "plain" or strategy.private or strategy.frozen:
        raise ConfigError(
            f'strategy.name = "{config.strategy.name}" contradicts the table [zeroth]: its client half works on '
            "gradients or on single tensors, and there are none",
            code="config.zeroth-strategy",
            allowed="strategies that fold updates only: fedavg, fedavgm, fedbuff, median, trimmed-mean, sign-vote, and "
            "fedadam, fedyogi and fedadagrad with a learning rate that counts in coefficients",
            remedy='set strategy.name = "fedavg", or remove [zeroth]',
        )
    if strategy.compares:
        _check_comparable(config, strategy)
    if table.sampling == "importance" and table.size > MOST:
        raise ConfigError(
            f'zeroth.sampling = "importance" contradicts zeroth.size = {table.size}: draws would not be exact',
            code="config.zeroth-importance",
            allowed=f"zeroth.size of at most {MOST}",
            remedy='lower it, or set zeroth.sampling = "uniform"',
        )


def _check_comparable(config: RunConfig, strategy: Strategy) -> None:
    """Refuse a strategy that compares clients where they do not look along the same directions."""
    table, rounds = config.zeroth, config.round
    assert table is not None
    name = getattr(strategy, "name", type(strategy).__name__)
    for wrong, key, value, allowed in (
        (table.draws != "round", "zeroth.draws", table.draws, "round"),
        (rounds.mode != "sync", "round.mode", rounds.mode, "sync"),
        (rounds.late != "drop", "round.late", rounds.late, "drop"),
    ):
        if wrong:
            raise ConfigError(
                f'strategy {name} contradicts {key} = "{value}": it compares what clients say '
                "of the same directions, and these would be of different ones",
                code="config.zeroth-strategy",
                allowed=f'{key} = "{allowed}"',
                remedy=f"set {key} so, or choose a strategy that adds up, such as fedavg",
            )


def make_settings(config: RunConfig) -> ZerothSettings:
    """Of each local step."""
    table = config.zeroth
    assert table is not None
    estimator: Estimator = build("estimator", table.estimator.name, table.estimator.params)
    return ZerothSettings(estimator, table.perturbation, table.clip, table.scalars == "sign")


def make_replica(config: RunConfig, initial: FloatArray, layout: Layout) -> Replica | None:
    """The replica of a zeroth-order run; None of any other.

    Args:
        config: the run file.
        initial: θ_0, shape (d,).
        layout: where each tensor lies in it.
    """
    table = config.zeroth
    if table is None:
        return None
    coordinates = Coordinates(
        size=table.size,
        epochs=table.epochs(config.run.rounds),
        refresh=table.refresh,
        unit=config.local.learning_rate * 2.0**-table.resolution,
        directions=make_settings(config).estimator.directions,
        seed=config.run.seed,
        shared=table.draws == "round",
        temperature=float(table.temperature) if table.sampling == "importance" else None,
    )
    pool, part = make_pool(config, initial, layout)
    own = table.estimator
    rules = (
        f"{own.name.rpartition(':')[2]}:{sorted(own.params.items())}:{table.perturbation}:{table.clip}:{table.scalars}"
    )
    return Replica(initial, pool, coordinates, rules + part)


def choose_zeroth_trainer(federation: Federation, jobs: Sequence[TrainingJob]) -> TrainerChoice:
    """Try two clients in one forward pass, unless the weights of two at all points of a step are too many.

    Args:
        federation: of the run.
        jobs: of any clients; the first batch of the first one is used, of the next where that gives no answer.
    """
    config, points = federation.config, len(make_settings(federation.config).estimator.points)
    if config.engine.trainer == "sequential":
        return TrainerChoice(False)
    alone, weights = "clients are trained one at a time: ", 4 * federation.adapter.layout.size
    if 2 * 2 * points * weights > config.engine.memory_mb * 1_000_000:
        note = f"each would need its own {weights / 1e6:.0f} MB of trained weights for every point of a step"
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
    assert federation.replica is not None
    settings = make_settings(federation.config)
    return ZerothTrainer(federation.adapter, federation.task, federation.replica, settings, on_step)


def _batched(federation: Federation, on_step: Callable[[], None] | None) -> BatchedZerothTrainer:
    assert federation.replica is not None
    rows, memory = pass_limits(federation.config, federation.adapter.theta.device)
    settings = make_settings(federation.config)
    about = (federation.adapter, federation.task, federation.replica, settings, on_step)
    return BatchedZerothTrainer(*about, rows=rows, memory=memory)


def zeroth_notes(federation: Federation) -> list[str]:
    """What a person should know of a zeroth-order run before it begins."""
    replica, table = federation.replica, federation.config.zeroth
    if replica is None or table is None:
        return []
    points = len(make_settings(federation.config).estimator.points)
    coordinates = replica.coordinates
    epochs = f", {coordinates.epochs} epochs of {coordinates.refresh} rounds" if coordinates.epochs > 1 else ""
    drawn = "" if coordinates.temperature is None else ", drawn by importance"
    words = f"no gradients: {points} forward passes a step; {coordinates.size} {table.pool} directions{epochs}{drawn}"
    return [f"{words}; clients send scalars and rebuild the model from coefficients", *pool_notes(federation.config)]
