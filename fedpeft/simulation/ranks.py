"""Smaller ranks against the adapter as it was built: a folder that a run starts from, a plug-in, or an own object."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fedpeft.adapters import FlatAdapter
from fedpeft.config import DeviceTable, RunConfig
from fedpeft.config.smaller_ranks import NEEDED, begins_at_zero, contradiction, smaller_ranks
from fedpeft.errors import ConfigError
from fedpeft.simulation.mixing import rule_of
from fedpeft.strategies import Strategy
from fedpeft.types import ALL_COMPONENTS

if TYPE_CHECKING:
    from fedpeft.simulation.federation import Federation


def full_rank(config: RunConfig, adapter: FlatAdapter) -> int:
    """R: the adapter's rank; of an adapter without LoRA layers, `ALL_COMPONENTS`.

    A run file may say more than there is, where the adapter was made by somebody else (`fedpeft.simulate`).
    """
    ranks = [item.shape[0] for item in adapter.layout.tensors if item.name.endswith(".lora_A.weight")]
    return min(max(ranks), config.adapter.rank or ALL_COMPONENTS) if ranks else ALL_COMPONENTS


def class_rank(config: RunConfig, adapter: FlatAdapter, table: DeviceTable) -> int:
    """How many components of each layer a device class trains. `adapter.rank` is all of them, also of layers that a
    `rank_pattern` makes wider."""
    return table.rank if table.rank is not None and table.rank < full_rank(config, adapter) else ALL_COMPONENTS


def check_built(config: RunConfig, adapter: FlatAdapter) -> None:
    """Refuse ranks above that of the adapter as it was built.

    Raises:
        ConfigError: names the key, its value and the adapter's rank.
    """
    full, arms = full_rank(config, adapter), config.scheduler.arms.rank if config.scheduler is not None else None
    told = [(f'devices.rank = {table.rank} of class "{table.name}"', table.rank or 0) for table in config.devices]
    told += [(f"scheduler.arms.rank has {rank}, which", rank) for rank in arms or ()]
    for named, rank in told:
        if rank > full and rank not in (config.adapter.rank, ALL_COMPONENTS):
            raise ConfigError(
                f"{named} is more than the rank of the adapter, {full}",
                code="config.rank",
                allowed=f"1 to {full}",
                remedy="lower it, or start from an adapter of that rank",
            )


def check_start(config: RunConfig, strategy: Strategy, adapter: FlatAdapter) -> None:
    """Refuse smaller ranks of an adapter whose B does not begin at 0, and whose base lacks what it begins with.

    Raises:
        ConfigError: names the key that has clients hold fewer components.
    """
    init = getattr(getattr(adapter.model, "active_peft_config", None), "init_lora_weights", True)
    cut = [] if begins_at_zero(init) else _smaller(config, strategy, adapter)
    if cut:
        key = cut[0].split(" = ")[0]
        raise ConfigError(
            contradiction(cut[0], f"the adapter, which was made with init_lora_weights = {init!r}"),
            code="config.rank-start",
            allowed=NEEDED,
            remedy=f"start from another adapter, or remove {key}",
        )


def needs_products(config: RunConfig, strategy: Strategy, adapter: FlatAdapter) -> str:
    """The first key, with its value, that cuts or mixes the components of LoRA layers; empty: none does."""
    named = [f'aggregation.rule = "{config.aggregation.rule}"'] if config.aggregation.rule is not None else []
    merged = [f"adapter.merged = {config.adapter.merged}"] if config.adapter.merged else []
    return next(iter([*_smaller(config, strategy, adapter), *merged, *named]), "")


def rank_notes(federation: Federation) -> list[str]:
    """What a smaller rank takes from an adapter that was trained before, for the plan before a run."""
    config = federation.config
    if config.adapter.start is None:
        return []
    return [
        f"{told}: adapter.start was trained with all {full_rank(config, federation.adapter)} components, and such a "
        "client starts without the last of them"
        for told in _smaller(config, federation.strategy, federation.adapter)
    ]


def _smaller(config: RunConfig, strategy: Strategy, adapter: FlatAdapter) -> list[str]:
    """As `smaller_ranks`, with rules of one's own that lower ranks."""
    full = full_rank(config, adapter)
    found = [] if full == ALL_COMPONENTS else smaller_ranks(config, full)
    rule = rule_of(config, strategy)
    if not found and rule is not None and rule.rank_decay is not None:
        found.append(f'aggregation.rule = "{config.aggregation.rule}" with decay = {rule.rank_decay.decay:g}')
    return found
