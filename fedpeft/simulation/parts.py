"""What a run file and its strategy say of the adapter's parts and of the two halves: checked, counted, put in words."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from fedpeft.adapters import FlatAdapter
from fedpeft.adapters.freeze import freeze
from fedpeft.adapters.products import check_products
from fedpeft.adapters.sharing import Sharing
from fedpeft.config import RunConfig
from fedpeft.config.scheduler import axes_of
from fedpeft.errors import ConfigError, PluginError
from fedpeft.pruning.sent import Sent
from fedpeft.registry import build
from fedpeft.simulation.mixing import mixing_notes, rule_of
from fedpeft.simulation.pruning import pruning_notes
from fedpeft.simulation.ranks import check_built, check_start, needs_products, rank_notes
from fedpeft.simulation.zeroth import zeroth_notes
from fedpeft.strategies import Strategy
from fedpeft.strategies.client_half import settle_objective
from fedpeft.training.objectives import half_of
from fedpeft.types import ALL_COMPONENTS

if TYPE_CHECKING:
    from fedpeft.simulation.federation import Federation


def private_parts(config: RunConfig, strategy: Strategy) -> list[str]:
    """Parts of the names of those tensors that stay on their client: the strategy's and the run file's."""
    return list(dict.fromkeys([*strategy.private, *config.adapter.private]))


def frozen_parts(config: RunConfig, strategy: Strategy) -> list[str]:
    """Parts of the names of those tensors that keep their initial value."""
    return list(dict.fromkeys([*strategy.frozen, *config.adapter.frozen]))


def turns_of(config: RunConfig, strategy: Strategy) -> Counter[tuple[str, ...]]:
    """How many rounds of a run freeze which parts of names; mostly all of them none."""
    return Counter(tuple(strategy.frozen_in(number)) for number in range(1, config.run.rounds + 1))


def trained(adapter: FlatAdapter, config: RunConfig, strategy: Strategy) -> FlatAdapter:
    """The adapter without its frozen tensors; it takes the place of the given one.

    Raises:
        ModelError: a part that no tensor has, or nothing is left to train, in some round.
        ConfigError: clients of a larger rank than the adapter's, or of a smaller one where it does not begin at 0.
    """
    check_built(config, adapter)
    check_start(config, strategy, adapter)
    check_products(adapter, lambda: needs_products(config, strategy, adapter))
    adapter = freeze(adapter, frozen_parts(config, strategy))
    adapter.merged = config.adapter.merged
    turns = turns_of(config, strategy)
    if any(turns):
        Sent(Sharing(adapter.layout, private_parts(config, strategy)).shared).check(turns)
    return adapter


def check_halves(config: RunConfig, strategy: Strategy) -> None:
    """See whether a strategy and its local objective are made for each other, before anything slow is loaded.

    Raises:
        PluginError: one sends what the other does not receive; no such codec.
        ConfigError: device classes of a smaller rank, whose unused components would be trained against a frozen factor;
            a rule of mixing that does not go with the strategy.
    """
    settle_objective(strategy)
    rule_of(config, strategy)
    _check_turns(config, strategy)
    objective = build("objective", strategy.objective, strategy.objective_params)
    half = half_of(objective)
    for what, ours, theirs in (
        ("sends", strategy.sends, half.receives if half is not None else ()),
        ("receives", strategy.receives, half.sends if half is not None else ()),
    ):
        if set(ours) != set(theirs):
            raise PluginError(
                f"strategy {type(strategy).__name__} {what} {sorted(ours)}, and its objective "
                f'"{strategy.objective}" is made for {sorted(theirs)}',
                code="plugin.halves",
                allowed="the same names on both sides",
                remedy="correct `sends` and `receives` of the strategy or of the objective",
            )
    if strategy.sends or strategy.receives:
        build("codec", config.codec.auxiliary, {})
    ranks = [table.name for table in config.devices if table.rank is not None]
    frozen = frozen_parts(config, strategy)
    smaller = [rank for rank in axes_of(config)[0] if rank < (config.adapter.rank or ALL_COMPONENTS)]
    if smaller and frozen:
        raise ConfigError(
            f"scheduler.arms.rank = {smaller[0]} contradicts frozen tensors ({', '.join(frozen)}): a component that a "
            "client leaves out has no gradient only while both its factors are trained",
            code="config.rank-frozen",
            allowed="one rank for all clients, adapter.rank",
            remedy="remove scheduler.arms.rank, or freeze nothing",
        )
    if ranks and frozen:
        raise ConfigError(
            f'devices.rank of class "{ranks[0]}" contradicts frozen tensors ({", ".join(frozen)}): a component that a '
            "client leaves out has no gradient only while both its factors are trained",
            code="config.rank-frozen",
            allowed="one rank for all clients, adapter.rank",
            remedy="remove devices.rank, or freeze nothing",
        )


def _check_turns(config: RunConfig, strategy: Strategy) -> None:
    """Refuse rounds that freeze tensors where something else needs all of them in every round."""
    if not any(turns_of(config, strategy)):
        return
    kind = type(strategy).__name__
    if not strategy.partial:
        raise PluginError(
            f"strategy {kind} freezes tensors in some rounds (frozen_in), and does not fold updates of some values",
            code="plugin.turns",
            allowed="partial = True, and an `accept` that honours `Update.held`",
            remedy="derive it from FedAvg, which does, or freeze nothing",
        )
    if config.zeroth is not None:
        raise ConfigError(
            f'strategy.name = "{config.strategy.name}" contradicts the table [zeroth]: a direction moves all values, '
            "and this strategy freezes some of them in turns",
            code="config.zeroth-strategy",
            allowed="strategies that train everything in every round, e.g. fedavg",
            remedy='set strategy.name = "fedavg", or remove [zeroth]',
        )


def part_notes(federation: Federation) -> list[str]:
    """What a person should know of the strategy's halves and of private parts before the run."""
    config, strategy, sharing = federation.config, federation.strategy, federation.sharing
    notes = [*strategy.remarks(config), *zeroth_notes(federation)]
    notes += [*pruning_notes(federation), *mixing_notes(config, strategy), *rank_notes(federation)]
    if not sharing.is_whole:
        parts = ", ".join(private_parts(config, strategy))
        notes.append(
            f"{sharing.private.size:,} of {sharing.whole.size:,} trainable parameters ({parts}) stay on each client; "
            "the coordinator has no whole adapter to judge: only clients evaluate, each with its own"
        )
        if not config.evaluation.clients or not any(map(len, federation.held_out.values())):
            notes.append("nobody evaluates this run: set evaluation.clients = true, and keep examples on the clients")
    return notes
