"""Put saved values into an adapter, and say what does not fit."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import peft
import torch
from peft.utils import set_peft_model_state_dict

from fedpeft.errors import ModelError


def load_weights(wrapped: Any, weights: Mapping[str, torch.Tensor]) -> None:
    """Put saved values into an adapter on its model.

    A module that is trained whole and that the folder has not keeps the base's values.

    Raises:
        ModelError: a tensor has no place, another shape, or is missing.
    """
    own = dict(peft.get_peft_model_state_dict(wrapped))
    weights = _under_its_head(weights, own, wrapped)
    whole = {**{name: tensor for name, tensor in own.items() if _whole(name, wrapped)}, **weights}
    try:
        report = set_peft_model_state_dict(wrapped, whole)
    except (RuntimeError, KeyError) as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        raise _does_not_fit(lines[min(1, len(lines) - 1)] if lines else type(error).__name__) from error
    missing = sorted(set(own) - set(whole))
    strange = sorted((set(report.unexpected_keys) | set(weights)) - set(own))
    if strange:
        raise _does_not_fit(f"the model has no place for {strange[0]}")
    if missing:
        raise _does_not_fit(f"it lacks {missing[0]}")


def _under_its_head(
    weights: Mapping[str, torch.Tensor], own: Mapping[str, torch.Tensor], wrapped: Any
) -> Mapping[str, torch.Tensor]:
    """The weights by the names that they have here: a bare encoder's layers have a prefix under a head, e.g. `bert`."""
    prefix = getattr(wrapped.get_base_model(), "base_model_prefix", "")
    here, there = f"base_model.model.{prefix}.", "base_model.model."
    renamed = {here + name.removeprefix(there): tensor for name, tensor in weights.items()}
    return renamed if not set(weights) & set(own) and set(renamed) & set(own) else weights


def _whole(name: str, wrapped: Any) -> bool:
    """Whether a saved tensor belongs to a module that is trained whole."""
    modules = getattr(wrapped.active_peft_config, "modules_to_save", None) or ()
    return any(f".{module}." in name for module in modules)


def _does_not_fit(what: str) -> ModelError:
    return ModelError(
        f"adapter.start does not fit this model: {what}",
        code="adapter.start",
        allowed="an adapter that was trained on the same base model",
        remedy="name the base that the folder's adapter_config.json names, or another folder",
    )
