"""Pruned clients in a federation: checked before anything slow is loaded, told to both sides, and priced."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import numpy as np

from fedpeft.adapters import FlatAdapter
from fedpeft.codecs.base import fitted
from fedpeft.config import DeviceTable, RunConfig
from fedpeft.config.pruning import PruningTable, is_pruned
from fedpeft.config.scheduler import axes_of
from fedpeft.errors import ConfigError, PluginError
from fedpeft.pruning.cost import Arithmetic
from fedpeft.pruning.counting import count_products
from fedpeft.pruning.importance import is_measured
from fedpeft.pruning.mask import choose, kept_of, largest_ratio, unpack
from fedpeft.pruning.ramp import Ramp
from fedpeft.pruning.shrink import KEPT, Pruner
from fedpeft.registry import build
from fedpeft.server.pruning import PruningSettings
from fedpeft.simulation.class_codecs import class_codec
from fedpeft.simulation.ranks import class_rank
from fedpeft.strategies import Strategy
from fedpeft.training.memory import step_memory
from fedpeft.training.steps import StepSettings

if TYPE_CHECKING:
    from fedpeft.simulation.federation import Federation

FOLDS = ("fedavg", "fedprox", "fedavgm", "fedbuff", "fedadam", "fedyogi", "fedadagrad", "ffa", "rolora")
"""Strategies of ours that fold what pruned clients send."""


def check_pruned(config: RunConfig, strategy: Strategy) -> None:
    """See whether a strategy can fold what pruned clients send.

    Raises:
        ConfigError: it cannot, or it has vectors or tensors of its own on its clients.
        PluginError: the importance is not known, refuses its parameters, or is a path that clients would have to load.
    """
    if not is_pruned(config):
        return
    table = config.pruning.importance
    importance = build("importance", table.name, table.params)
    if is_measured(importance) and (".py:" in table.name or table.params):
        raise PluginError(
            f'pruning.importance "{table.name}" is measured on the clients, which are told its name alone',
            code="plugin.importance-remote",
            allowed="one that is built in, or an installed entry point fedpeft.importance, without parameters",
            remedy="install it as a package on both sides",
        )
    vectors = list(dict.fromkeys([*strategy.sends, *strategy.receives, *strategy.private]))
    if not strategy.partial or vectors:
        why = (
            "needs all coordinates of every client" if not vectors else f"keeps or moves {', '.join(vectors)} beside θ"
        )
        told = "devices.pruning" if config.scheduler is None else "scheduler.arms.pruning"
        raise ConfigError(
            f'strategy.name = "{config.strategy.name}" contradicts {told}: it {why}',
            code="config.pruning-strategy",
            allowed=f"{', '.join(FOLDS)}, or one with partial = True",
            remedy=f"choose one of these, or remove {told}",
        )


def make_pruner(config: RunConfig, adapter: FlatAdapter) -> Pruner | None:
    """What makes the smaller models of a run; None where nobody is pruned.

    Raises:
        ModelError: the model cannot be pruned.
        ConfigError: the ratio of a class or of an arm would leave a layer no head.
    """
    if not is_pruned(config):
        return None
    kernel = build("kernel", config.engine.kernel, {}) if config.local.autocast == "off" else None
    ratios = {table.pruning for table in config.devices} | set(axes_of(config)[1])
    pruner = Pruner(adapter, kernel, kept=max(KEPT, len(ratios - {0.0})))
    sizes, names = pruner.units.sizes, {group.size: group.kind for group in pruner.units.groups}
    asked = [
        (table.pruning, f'devices.pruning = {table.pruning:g} of class "{table.name}"') for table in config.devices
    ]
    asked += [(ratio, f"scheduler.arms.pruning = {ratio:g}") for ratio in axes_of(config)[1]]
    for ratio, told in asked:
        empty = [size for size in sizes if kept_of(size, ratio) == 0]
        if empty:
            raise ConfigError(
                f"{told} keeps none of the {empty[0]} {names[empty[0]]} of a layer",
                code="config.pruning-ratio",
                allowed=f"0 to {largest_ratio(sizes):g} with this model",
                remedy="lower it",
            )
    return pruner


def pruning_settings(federation: Federation) -> PruningSettings | None:
    """What the coordinator of a run with pruned clients knows."""
    if federation.pruner is None:
        return None
    ratios = {table.name: table.pruning for table in federation.config.devices}
    return PruningSettings(federation.pruner.units, federation.pruner.magnitudes, ratios)


def score_bytes(federation: Federation, mask: bytes = b"") -> int:
    """Bytes of the scores in an update: two for each head or channel that its client holds."""
    table = federation.config.pruning.importance
    if federation.pruner is None or not is_measured(build("importance", table.name, table.params)):
        return 0
    sizes = federation.pruner.units.sizes
    return 2 * int(unpack(mask, sizes).sum() if mask else sum(sizes))


def ratio_mask(federation: Federation, ratio: float) -> bytes:
    """The mask of a ratio by the magnitude of the base's weights: of the size that any mask of it has."""
    assert federation.pruner is not None
    return choose(federation.pruner.magnitudes, federation.pruner.units.sizes, ratio)


def pruned_megabytes(federation: Federation, ratio: float) -> float:
    """Megabytes (1e6 bytes) of one step without such a share of heads and channels, measured as `step_megabytes`."""
    assert federation.pruner is not None
    config, largest = federation.config, max(federation.train.values(), key=len)
    smaller = federation.pruner.shrunk(ratio_mask(federation, ratio)).adapter
    size = step_memory(smaller, federation.task, largest, config.local.batch_size, StepSettings.of(config.local))
    return size / 1e6


def pruned_memory(federation: Federation) -> dict[str, float]:
    """Megabytes that a step of each pruned device class holds, pruned as far as the run comes."""
    if federation.pruner is None:
        return {}
    reached = {table.name: _reached(federation.config, table.pruning) for table in federation.config.devices}
    return {
        name: pruned_megabytes(federation, ratio) for name, ratio in reached.items() if ratio_mask(federation, ratio)
    }


def pruning_notes(federation: Federation) -> list[str]:
    """What a pruned class's step and update come to, for the plan that is shown before a run."""
    arithmetic, config, notes = federation.step_arithmetic, federation.config, []
    if not is_pruned(config) and config.pruning != PruningTable():
        notes.append("[pruning] is set, and no device class or arm has a pruning above 0: nobody is pruned")
    if is_pruned(config) and config.pruning.start > config.run.rounds:
        last = f"run.rounds = {config.run.rounds}"
        return [f"pruning.start = {config.pruning.start} is after the last round, {last}: nobody is pruned in this run"]
    for table in config.device_classes:
        ratio = _reached(config, table.pruning)
        mask = ratio_mask(federation, ratio) if arithmetic is not None else b""
        if arithmetic is None or not mask:
            continue
        rank = class_rank(config, federation.adapter, table)
        portion = federation.sent.portion(mask, (), rank)
        codec = fitted(build("codec", class_codec(config, table), {}), portion.layout)
        size = codec.nominal_bytes(portion.size) + score_bytes(federation, mask)
        short = f", of devices.pruning = {table.pruning:g}: pruning.ramp goes beyond the last round"
        notes.append(
            f"device class {table.name} does without {ratio:.0%} of the heads and channels: a step takes "
            f"{arithmetic.share(rank, ratio):.0%} of the arithmetic, an update {size / 1e3:,.0f} kB"
            + (short if ratio < table.pruning else "")
        )
    return notes


def pruned_rounds(federation: Federation, table: DeviceTable) -> Counter[float]:
    """Ratios that a device class is pruned by in the rounds of a run, 0 = not at all, and in how many each."""
    config, target = federation.config, 0.0 if federation.pruner is None else table.pruning
    return Counter(_ramp(config).ratio(target, number) for number in range(1, config.run.rounds + 1))


def _reached(config: RunConfig, ratio: float) -> float:
    """What a target ratio has grown to in the last round."""
    return _ramp(config).ratio(ratio, config.run.rounds)


def _ramp(config: RunConfig) -> Ramp:
    return Ramp(config.pruning.start, config.pruning.ramp, config.pruning.every)


def count_arithmetic(federation: Federation) -> Arithmetic | None:
    """The products of a step on the run's own data; None where nobody is pruned."""
    if federation.pruner is None:
        return None
    lengths: list[Any] = [data.lengths for data in federation.train.values() if hasattr(data, "lengths")]
    tokens = float(np.concatenate(lengths).mean()) if lengths else 0.0
    return count_products(federation.adapter.model, federation.pruner.anatomy, tokens)
