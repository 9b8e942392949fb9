"""Clients that hold fewer LoRA components than the federation: who they are, and where they cannot be.

Leaving a component out takes its part of B A from the layer. Where B begins at 0 that part is what was trained, and
nothing at first. PiSSA and its like put a part of the base's own matrix into B A, or random values: there the client
would train a base that lacks it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fedpeft.explain import Contradiction
from fedpeft.types import ALL_COMPONENTS

if TYPE_CHECKING:
    from fedpeft.config.run_config import RunConfig

B_AT_ZERO = (True, "gaussian", "eva")
"""Values of peft's `init_lora_weights` with which B begins at 0 and the base stays as it is."""

NEEDED = 'adapter.type = "lora", "rslora" or "dora", with init_lora_weights = true, "gaussian" or "eva"'
"""What smaller ranks go with, in words."""


def begins_at_zero(init: Any) -> bool:
    """Whether B begins at 0 with this value of `init_lora_weights`.

    >>> [begins_at_zero(init) for init in (True, "gaussian", False, "pissa", "pissa_niter_4", "olora")]
    [True, True, False, False, False, False]
    """
    return (init.lower() if isinstance(init, str) else init) in B_AT_ZERO


def smaller_ranks(config: RunConfig, full: int) -> list[str]:
    """What has clients do without some of `full` components: keys of the run file with their values."""
    found = [
        f'devices.rank = {table.rank} of class "{table.name}"'
        for table in config.devices
        if table.rank is not None and table.rank < full
    ]
    arms = (config.scheduler.arms.rank if config.scheduler is not None else None) or []
    if any(rank < full for rank in arms):
        found.append(f"scheduler.arms.rank = {list(arms)}")
    decay = config.aggregation.params.get("decay", 1.0)
    if config.aggregation.rule == "hetlora" and isinstance(decay, int | float) and decay < 1:
        found.append(f'aggregation.rule = "hetlora" with decay = {decay:g}')
    return found


def check_smaller_ranks(config: RunConfig) -> None:
    """Refuse smaller ranks of an adapter that the run file itself has begin elsewhere than at 0.

    Raises:
        Contradiction: names both keys, their values, what is allowed and what to do.
    """
    table = config.adapter
    if table.type == "pissa":
        key, value = "type", '"pissa"'
    else:
        init = table.params.get("init_lora_weights", True)
        if begins_at_zero(init):
            return
        key, value = "init_lora_weights", repr(init)
    cut = smaller_ranks(config, table.rank or ALL_COMPONENTS)
    if cut:
        raise Contradiction(
            contradiction(cut[0], f"adapter.{key} = {value}"),
            allowed=NEEDED,
            remedy=f"change adapter.{key}, or remove {cut[0].split(' = ')[0]}",
        )


def contradiction(cut: str, against: str) -> str:
    """What is wrong, of a key of `smaller_ranks` and of what says that B does not begin at 0."""
    return (
        f"{cut} contradicts {against}: B does not begin at 0 there, and the components that a client leaves out "
        "would be missing from the layers that it starts from"
    )
