"""What a zeroth-order run is made of: its replica, its settings, and what to tell people about them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from fedpeft.config import RunConfig
from fedpeft.errors import ConfigError
from fedpeft.registry import build
from fedpeft.simulation.placing import pass_limits
from fedpeft.simulation.zeroth_local import check_local, delta_note, held, sends_delta
from fedpeft.strategies import Strategy
from fedpeft.training import Trainer, TrainingJob
from fedpeft.training.choice import TrainerChoice
from fedpeft.training.zeroth.batched import BatchedZerothTrainer
from fedpeft.training.zeroth.check import examine_losses
from fedpeft.training.zeroth.estimators import Estimator
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
        ConfigError: the strategy's client half works on gradients; see also `check_local`.
    """
    table = config.zeroth
    if table is None:
        return
    build("pool", table.pool, {"size": table.size, "seed": config.run.seed})
    make_settings(config)
    if sends_delta(config):
        check_local(config, strategy)
        return
    if strategy.objective != "plain" or strategy.private or strategy.frozen:
        raise ConfigError(
            f'strategy.name = "{config.strategy.name}" contradicts the table [zeroth]: its client half works on '
            "gradients or on single tensors, and there are none",
            code="config.zeroth-strategy",
            allowed="strategies that fold updates only: fedavg, fedavgm, fedbuff, sign-vote, and fedadam, fedyogi and "
            "fedadagrad with a learning rate that counts in coefficients",
            remedy='set strategy.name = "fedavg", or remove [zeroth]',
        )


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
    return None if config.zeroth is None or sends_delta(config) else make_directions(config, initial)


def make_directions(config: RunConfig, initial: FloatArray) -> Replica:
    """As `make_replica`, of a zeroth-order run of either kind; one by deltas asks it for directions alone."""
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
    if config.engine.trainer == "sequential":
        return TrainerChoice(False)
    _, vectors = held(config, 0)
    alone, weights = "clients are trained one at a time: ", 4 * federation.adapter.layout.size
    if 2 * (2 * points + vectors) * weights > config.engine.memory_mb * 1_000_000:
        note = f"each would need its own {weights / 1e6:.0f} MB of trained weights for every point of a step"
        note += f", and {vectors} times that for its optimizer" if vectors else ""
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
    return BatchedZerothTrainer(*about, rows=rows, memory=memory, vectors=held(federation.config, 0)[1])


def _rules(federation: Federation) -> tuple[Replica, ZerothSettings]:
    return federation.directions, make_settings(federation.config)


def _records(federation: Federation) -> type[Record]:
    return LocalRecord if sends_delta(federation.config) else Record


def step_looks(config: RunConfig) -> tuple[int, int]:
    """Directions that a step holds, and vectors of θ's size."""
    return held(config, make_settings(config).estimator.directions)


def zeroth_notes(federation: Federation) -> list[str]:
    """What a person should know of a zeroth-order run before it begins."""
    config = federation.config
    table = config.zeroth
    if table is None:
        return []
    points = len(make_settings(config).estimator.points)
    coordinates = federation.directions.coordinates
    epochs = f", {coordinates.epochs} epochs of {coordinates.refresh} rounds" if coordinates.epochs > 1 else ""
    words = f"no gradients: {points} forward passes a step; {coordinates.size} {table.pool} directions{epochs}"
    if sends_delta(config):
        return [f"{words}; {delta_note(config, federation.sharing.shared.size)}"]
    return [f"{words}; clients send scalars and rebuild the model from coefficients"]
