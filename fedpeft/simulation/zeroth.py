"""What a zeroth-order run is made of: its replica, its settings, and what to tell people about them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from fedpeft.config import RunConfig, ZerothTable
from fedpeft.config.table import PluginTable
from fedpeft.errors import ConfigError
from fedpeft.registry import build
from fedpeft.report.units import bytes_text
from fedpeft.simulation.placing import pass_limits
from fedpeft.simulation.pools import drawn_pool, make_pool, pool_notes
from fedpeft.simulation.zeroth_combinations import check_combinations
from fedpeft.simulation.zeroth_local import check_local, delta_note, held, sends_delta
from fedpeft.strategies import Strategy
from fedpeft.training import Trainer, TrainingJob
from fedpeft.training.choice import TrainerChoice
from fedpeft.training.zeroth.batched import BatchedZerothTrainer
from fedpeft.training.zeroth.check import examine_alone, examine_losses
from fedpeft.training.zeroth.conservative import MULTIPLES
from fedpeft.training.zeroth.estimators import Estimator
from fedpeft.training.zeroth.local.record import LocalRecord
from fedpeft.training.zeroth.record import Record, ZerothSettings
from fedpeft.training.zeroth.trainer import ZerothTrainer
from fedpeft.types import FloatArray, Layout
from fedpeft.zeroth.coordinates import Coordinates
from fedpeft.zeroth.importance import MOST
from fedpeft.zeroth.optimizers import CoefficientOptimizer
from fedpeft.zeroth.replica import Replica

if TYPE_CHECKING:
    from fedpeft.simulation.federation import Federation


def check_scalars(config: RunConfig, strategy: Strategy) -> None:
    """See whether a zeroth-order run can be what its file says, before anything slow is loaded.

    Raises:
        PluginError: the pool, the estimator or the optimizer refuses its parameters.
        ConfigError: the strategy's client half works on gradients, or it compares what cannot be compared; two keys
            mean nothing together; a pool of so many blocks cannot be; too many directions to draw them by importance.
    """
    table = config.zeroth
    if table is None:
        return
    drawn_pool(config)
    check_combinations(config, strategy, make_settings(config), make_optimizer(config))
    if sends_delta(config):
        check_local(config, strategy)
        return
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
    about = (table.scalars == "sign", table.conservative, table.objective)
    return ZerothSettings(estimator, table.perturbation, table.clip, *about)


def make_optimizer(config: RunConfig) -> CoefficientOptimizer:
    """Of the coefficients, on both sides."""
    assert config.zeroth is not None
    optimizer: CoefficientOptimizer = build(
        "coefficient_optimizer", config.zeroth.optimizer.name, config.zeroth.optimizer.params
    )
    return optimizer


def make_replica(config: RunConfig, initial: FloatArray, layout: Layout) -> Replica | None:
    """The replica of a zeroth-order run by scalars; None of any other.

    Args:
        config: the run file.
        initial: θ_0, shape (d,).
        layout: where each tensor lies in it.
    """
    return None if config.zeroth is None or sends_delta(config) else make_directions(config, initial, layout)


def make_directions(config: RunConfig, initial: FloatArray, layout: Layout) -> Replica:
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
        optimizer=make_optimizer(config),
        temperature=float(table.temperature) if table.sampling == "importance" else None,
    )
    pool, part = make_pool(config, initial, layout)
    own = table.estimator
    rules = (
        f"{own.name.rpartition(':')[2]}:{sorted(own.params.items())}:{table.perturbation}:{table.clip}:{table.scalars}"
    )
    return Replica(initial, pool, coordinates, rules + part + _further_rules(table))


def _further_rules(table: ZerothTable) -> str:
    """What else both sides must agree on, where it is not the default: such runs keep the identity that they had."""
    own = table.optimizer
    words = f":{own.name.rpartition(':')[2]}:{sorted(own.params.items())}" if own != PluginTable(name="sgd") else ""
    words += f":{table.objective}" if table.objective != "loss" else ""
    return words + ":conservative" * table.conservative


def choose_zeroth_trainer(federation: Federation, jobs: Sequence[TrainingJob]) -> TrainerChoice:
    """Try two clients in one forward pass, unless the weights of two at all points of a step are too many.

    Args:
        federation: of the run.
        jobs: of any clients; the first batch of the first one is used, of the next where that gives no answer.
    """
    config, settings = federation.config, make_settings(federation.config)
    alone, weights = "clients are trained one at a time: ", 4 * federation.adapter.layout.size
    if settings.slopes or settings.objective != "loss":
        examine_alone(_sequential(federation, None), jobs[0])
    if config.engine.trainer == "sequential":
        return TrainerChoice(False)
    if settings.slopes:
        return TrainerChoice(False, f"{alone}slopes are taken by forward-mode differentiation of one client's pass")
    _, vectors = held(config, 0)
    if 2 * (2 * settings.widest + vectors) * weights > config.engine.memory_mb * 1_000_000:
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
    return _sequential(federation, on_step)


def _sequential(federation: Federation, on_step: Callable[[], None] | None) -> ZerothTrainer:
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


def looks(config: RunConfig) -> int:
    """Forward passes of a batch that a step of a zeroth-order run takes; one with tangents counts twice."""
    settings = make_settings(config)
    estimated = 2 * settings.estimator.directions if settings.slopes else len(settings.estimator.points)
    return estimated + len(MULTIPLES) * settings.conservative


def zeroth_notes(federation: Federation) -> list[str]:
    """What a person should know of a zeroth-order run before it begins."""
    config = federation.config
    table = config.zeroth
    if table is None:
        return []
    coordinates, settings = federation.directions.coordinates, make_settings(config)
    passes = f"{len(settings.estimator.points)} forward passes a step"
    if settings.slopes:
        many = "es" * (coordinates.directions > 1)
        passes = (
            f"{coordinates.directions} forward-mode pass{many} a step, with 4 bytes a trained weight for the tangent"
        )
    passes += f" and {len(MULTIPLES)} to see which way is best" * settings.conservative
    epochs = f", {coordinates.epochs} epochs of {coordinates.refresh} rounds" if coordinates.epochs > 1 else ""
    drawn = "" if coordinates.temperature is None else ", drawn by importance"
    words = f"no gradients: {passes}; {coordinates.size} {table.pool} directions{epochs}{drawn}"
    if sends_delta(config):
        return [f"{words}; {delta_note(config, federation.sharing.shared.size)}", *pool_notes(config)]
    notes = [f"{words}; clients send scalars and rebuild the model from coefficients", *pool_notes(config)]
    if table.refresh and table.checkpoint:
        most = bytes_text(4 * federation.adapter.layout.size)
        notes.append(f"a client that lacks many epochs is sent a checkpoint of them, about {most} at most, if shorter")
    steps = max(federation.steps(device.name) for device in federation.config.devices)
    return notes + _optimizer_notes(table, coordinates, steps * coordinates.directions)


def _optimizer_notes(table: ZerothTable, coordinates: Coordinates, drawn: int) -> list[str]:
    """How far one client can go by another optimizer than SGD, and what its steps cost."""
    optimizer = coordinates.optimizer
    if table.optimizer.name == "sgd":
        return []
    reach = optimizer.reach(1.0 if table.scalars == "sign" else table.clip, drawn, coordinates.size)
    note = f"zeroth.optimizer {table.optimizer.name}: a drawn direction moves no weight by more than {reach:.3g} rates"
    if optimizer.stateless:
        return [note]
    passes = "one pass over the weights" if table.pool == "hadamard" else "a rebuild of the epoch from what was drawn"
    return [f"{note}; each step adds up all directions that were drawn so far: {passes}"]
