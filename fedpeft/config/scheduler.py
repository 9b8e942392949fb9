"""`[scheduler]`: who picks each client's rank, pruning ratio, codec and local steps, and what there is to pick from."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field, model_validator

from fedpeft.config.adapter import LORA_VARIANTS
from fedpeft.config.table import PluginTable, Positive, Table
from fedpeft.explain import Contradiction
from fedpeft.types import ALL_COMPONENTS

if TYPE_CHECKING:
    from fedpeft.config.run_config import RunConfig

Ratio = Annotated[float, Field(ge=0, lt=1)]

COORDINATES = ("rank", "pruning", "codec", "steps")
"""Of an arm: the keys of `scheduler.arms`, and those of `[[devices]]` that say the same without a scheduler."""

MOST_ARMS = 1000
"""A federation makes some thousand choices at most; a list that is longer by mistake is found out here."""


class ArmsTable(Table):
    """`scheduler.arms`: the values of each coordinate, from little to much; their product is the grid of arms."""

    rank: list[Positive] | None = None  # default: adapter.rank alone
    pruning: list[Ratio] = Field(default_factory=lambda: [0.0])  # share of heads and channels that is left out
    codec: list[str] | None = None  # default: codec.up alone
    steps: list[Positive] | None = None  # default: local.steps alone

    @model_validator(mode="after")
    def _distinct(self) -> ArmsTable:
        for key in COORDINATES:
            values: list[Any] | None = getattr(self, key)
            if values is None:
                continue
            if not values:
                raise Contradiction(
                    f"{key} = [] leaves nothing to choose from",
                    allowed="one value or more",
                    remedy=f"list values, or leave scheduler.arms.{key} out",
                )
            twice = next((value for value in values if values.count(value) > 1), None)
            if twice is not None:
                raise Contradiction(
                    f"{key} = {values} lists {twice!r} twice",
                    allowed="each value once",
                    remedy="remove the second",
                )
        return self


class SchedulerTable(PluginTable):
    """`[scheduler]`: which one, over which arms; further keys are its parameters."""

    arms: ArmsTable = ArmsTable()
    slowness: float = Field(2.0, ge=0, le=10)  # β of the reward: how much being slower than the cohort costs


def check_scheduler(config: RunConfig) -> None:
    """Refuse arms that the rest of the run file contradicts.

    Raises:
        Contradiction: names the key, its value and what is allowed.
    """
    table = config.scheduler
    if table is None:
        return
    if config.zeroth is not None:
        raise Contradiction(
            "[scheduler] contradicts [zeroth]: the scheduler's arms are settings of training by gradients",
            allowed="one of the two tables",
            remedy="remove one of them",
        )
    ranks, ratios, codecs, steps = axes_of(config)
    count = len(ranks) * len(ratios) * len(codecs) * len(steps)
    if count > MOST_ARMS:
        raise Contradiction(
            f"scheduler.arms has {count} arms: rank × pruning × codec × steps",
            allowed=f"at most {MOST_ARMS}",
            remedy="list fewer values: each arm must be tried to be known",
        )
    _check_ranks(config, ranks)
    for device in config.devices:
        for key in COORDINATES:
            if getattr(device, key) not in (None, 0.0):
                raise Contradiction(
                    f'devices.{key} = {getattr(device, key)!r} of class "{device.name}" contradicts [scheduler], whose '
                    f"arm sets the {key}",
                    allowed=f"devices.{key} without [scheduler], or scheduler.arms.{key}",
                    remedy=_as_arms(config),
                )


def _as_arms(config: RunConfig) -> str:
    """What to do with keys of `[[devices]]` that an arm sets: the table `[scheduler]` that says the same, in TOML."""
    usual: dict[str, Any] = {
        "rank": config.adapter.rank or ALL_COMPONENTS,
        "pruning": 0.0,
        "codec": config.codec.up,
        "steps": config.local.steps,
    }
    by_class = {
        device.name: {key: own for key in COORDINATES if (own := getattr(device, key)) not in (None, 0.0)}
        for device in config.devices
    }
    by_class = {name: own for name, own in by_class.items() if own}
    told = [key for key in COORDINATES if any(key in own for own in by_class.values())]
    arms = {key: {usual[key], *(own[key] for own in by_class.values() if key in own)} for key in told}
    classes = ", ".join(f"{_toml(name)} = {{ {_pairs(own)} }}" for name, own in by_class.items())
    lines = [
        "[scheduler]",
        'name = "fixed"',
        *(f"{key} = {_toml(usual[key])}" for key in told),
        f"by_class = {{ {classes} }}",
        f"arms = {{ {_pairs({key: sorted(values) for key, values in arms.items()})} }}",
    ]
    remove = " and ".join(f"devices.{key}" for key in told)
    return "\n      ".join([f"remove {remove}; a scheduler that says the same is", *lines])


def _pairs(table: Mapping[str, Any]) -> str:
    """What stands in the braces of an inline table."""
    return ", ".join(f"{key} = {_toml(value)}" for key, value in table.items())


def _toml(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)  # of texts, numbers and lists TOML and JSON say the same


def axes_of(config: RunConfig) -> tuple[list[int], list[float], list[str], list[int]]:
    """Ranks, pruning ratios, codecs and step counts of a run file's arms; a run without a scheduler has one of each."""
    arms = config.scheduler.arms if config.scheduler is not None else ArmsTable()
    return (
        arms.rank or [config.adapter.rank or ALL_COMPONENTS],
        arms.pruning,
        arms.codec or [config.codec.up],
        arms.steps or [config.local.steps],
    )


def _check_ranks(config: RunConfig, ranks: Sequence[int]) -> None:
    adapter = config.adapter
    if all(rank in (adapter.rank, ALL_COMPONENTS) for rank in ranks):
        return
    if adapter.type not in (*LORA_VARIANTS, "saved") and ".py:" not in adapter.type:
        raise Contradiction(
            f'scheduler.arms.rank = {list(ranks)} contradicts adapter.type = "{adapter.type}", which has no components '
            "to leave out",
            allowed=f"adapter.type = {', '.join(LORA_VARIANTS)}",
            remedy="remove scheduler.arms.rank, or choose one of these types",
        )
    if adapter.rank is not None and max(ranks) > adapter.rank:
        raise Contradiction(
            f"scheduler.arms.rank has {max(ranks)}, which is more than adapter.rank",
            allowed=f"1 to {adapter.rank}",
            remedy="lower it, or raise adapter.rank (of fedpeft.simulate: r of its peft_config)",
        )
