"""`[scheduler]`: who picks each client's rank, pruning ratio, codec and local steps, and what there is to pick from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field, field_validator

from fedpeft.config.adapter import LORA_VARIANTS
from fedpeft.config.table import PluginTable, Positive, Table
from fedpeft.explain import Contradiction
from fedpeft.types import ALL_COMPONENTS

if TYPE_CHECKING:
    from fedpeft.config.run_config import RunConfig

Ratio = Annotated[float, Field(ge=0, lt=1)]

MOST_ARMS = 1000
"""A federation makes some thousand choices at most; a list that is longer by mistake is found out here."""


class ArmsTable(Table):
    """`scheduler.arms`: the values of each coordinate, from little to much; their product is the grid of arms."""

    rank: list[Positive] | None = None  # default: adapter.rank alone
    pruning: list[Ratio] = Field(default_factory=lambda: [0.0])  # share of heads and channels that is left out
    codec: list[str] | None = None  # default: codec.up alone
    steps: list[Positive] | None = None  # default: local.steps alone

    @field_validator("rank", "pruning", "codec", "steps")
    @classmethod
    def _distinct(cls, values: list[Any] | None) -> list[Any] | None:
        if values is None:
            return None
        if not values:
            raise Contradiction(
                "an empty list leaves nothing to choose from",
                allowed="one value or more",
                remedy="list values, or leave the key out",
            )
        twice = next((value for value in values if values.count(value) > 1), None)
        if twice is not None:
            raise Contradiction(f"{twice!r} is listed twice", allowed="each value once", remedy="remove the second")
        return values


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
        for key in ("rank", "pruning", "codec", "steps"):
            if getattr(device, key) not in (None, 0.0):
                raise Contradiction(
                    f'devices.{key} = {getattr(device, key)!r} of class "{device.name}" contradicts [scheduler], whose '
                    f"arm sets the {key}",
                    allowed=f"devices.{key} without [scheduler], or scheduler.arms.{key}",
                    remedy=f"remove devices.{key}; what it said is "
                    f'scheduler = {{ name = "fixed", by_class = {{ "{device.name}" = {{ {key} = ... }} }} }}',
                )


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
            remedy="lower it, or raise adapter.rank",
        )
