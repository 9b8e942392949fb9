"""Less memory for more time: of every block only its input is kept, and the block runs again when its gradient is due.

Chen et al. 2016, "Training Deep Nets with Sublinear Memory Cost", arXiv 1604.06174. It is done here and not by
`transformers`, whose layers checkpoint in train mode only: a frozen base stays in eval mode. The second run draws the
same dropout, so gradients are the same to the last bit.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from functools import partial
from typing import Any

import torch
from torch.utils.checkpoint import checkpoint

from fedpeft.errors import ConfigError


def blocks(model: torch.nn.Module) -> list[torch.nn.Module]:
    """The blocks of a model: the members of its outermost module lists, e.g. a transformer's layers.

    Raises:
        ConfigError: it has none, or they share what a second run would change.
    """
    if getattr(getattr(model, "active_peft_config", None), "peft_type", "") == "PREFIX_TUNING":
        raise _cannot("prefix tuning hands keys and values from block to block, and a second run would add them again")
    found: list[torch.nn.Module] = []
    inside: tuple[str, ...] = ()
    for name, module in model.named_modules():
        if isinstance(module, torch.nn.ModuleList) and not (inside and f"{name}.".startswith(inside)):
            found += module
            inside = (*inside, f"{name}.")
    if not found:
        raise _cannot(f"{type(model).__name__} has no list of blocks (a torch.nn.ModuleList)")
    return found


@contextlib.contextmanager
def checkpointed(model: torch.nn.Module) -> Iterator[None]:
    """In here every block of `model` keeps its input only; forward and backward pass belong in it together."""
    own = blocks(model)
    before = [vars(block).get("forward") for block in own]
    config: Any = getattr(model, "config", None)
    cache = getattr(config, "use_cache", None)
    try:
        if cache is not None:
            config.use_cache = False  # a decoder's keys and values: nobody reads them in training
        for block in own:
            vars(block)["forward"] = partial(checkpoint, block.forward, use_reentrant=False)
        yield
    finally:
        for block, forward in zip(own, before, strict=True):
            if forward is None:
                vars(block).pop("forward", None)
            else:
                vars(block)["forward"] = forward
        if cache is not None:
            config.use_cache = cache


def _cannot(reason: str) -> ConfigError:
    return ConfigError(
        f"local.checkpointing = true is not possible here: {reason}",
        code="config.checkpointing",
        allowed="a model made of blocks, with an adapter on its layers",
        remedy="set local.checkpointing = false; local.accumulate saves memory, too",
    )
