"""Start from an adapter that was trained before: a folder as `PeftModel.save_pretrained` writes it.

Type, settings and values come from the folder; what the `[adapter]` table says beside `start` must agree with them.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import peft
from peft.utils.save_and_load import load_peft_weights
from safetensors import SafetensorError

from fedpeft.adapters.base_model import BaseModel
from fedpeft.adapters.build import build_adapter
from fedpeft.adapters.configure import VARIANTS, as_table, their_name
from fedpeft.adapters.flat import FlatAdapter
from fedpeft.config import AdapterTable
from fedpeft.config.adapter import LORA_VARIANTS
from fedpeft.errors import ModelError

CONFIG = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"


def build_saved(base: BaseModel, table: AdapterTable, *, classifier: bool, seed: int) -> FlatAdapter:
    """The adapter of the folder `table.start` on `base`, with the values that it holds.

    Args:
        base: loaded; it is changed in place.
        table: `start`, and whatever is to be checked against the folder.
        classifier: the base is a sequence classifier; a head that the folder has not is trained whole from the base's.
        seed: the run's, for what the folder has not.

    Raises:
        ModelError: the folder is none of peft's, contradicts the table, or does not fit the model.
    """
    folder = Path(str(table.start))
    config = _configuration(folder)
    _check_agreement(table, config)
    if config.peft_type == peft.PeftType.P_TUNING or getattr(config, "prefix_projection", False):
        raise ModelError(
            f"adapter.start = {table.start!r}: of a {config.peft_type.value.lower()} peft saves what its network made, "
            "and not the network, so it cannot be trained on",
            code="adapter.start",
            allowed="a folder of any other type",
            remedy="start afresh: remove adapter.start",
        )
    if base.form.peft_task is not None:
        config.task_type = base.form.peft_task
    if classifier:
        config.modules_to_save = list(dict.fromkeys([*(config.modules_to_save or ()), *base.fresh]))
    config.inference_mode = False
    if not (folder / WEIGHTS).is_file():
        raise ModelError(
            f"adapter.start = {table.start!r}: it has no {WEIGHTS}",
            code="adapter.start",
            allowed=f"a folder with {WEIGHTS}; other files of weights would have to be unpickled",
            remedy="save the adapter again, with the peft of today",
        )
    try:
        weights = load_peft_weights(str(folder), device="cpu")
    except (OSError, ValueError, SafetensorError) as error:
        raise ModelError(
            f"adapter.start = {table.start!r}: its weights cannot be read: {str(error).splitlines()[0]}",
            code="adapter.start",
            allowed="a folder with adapter_model.safetensors",
            remedy="save the adapter again",
        ) from error
    return build_adapter(base.model, config, seed=seed, weights=weights)


def _configuration(folder: Path) -> Any:
    path = folder / CONFIG
    if not path.is_file():
        near = sorted(folder.glob(f"*/{CONFIG}"))[:1] if folder.is_dir() else []
        raise ModelError(
            f"adapter.start = {str(folder)!r}: "
            + ("it has no " + CONFIG if folder.is_dir() else "there is no such folder"),
            code="adapter.start",
            allowed=f"a peft adapter's folder: {CONFIG} and adapter_model.safetensors",
            remedy=f"there is one in {near[0].parent}" if near else "correct the path",
        )
    try:
        return peft.PeftConfig.from_pretrained(str(folder))
    except (ValueError, TypeError, KeyError, json.JSONDecodeError) as error:
        raise ModelError(
            f"adapter.start = {str(folder)!r}: peft {peft.__version__} cannot read its {CONFIG}: {error}",
            code="adapter.start",
            remedy="save the adapter again, or install the peft that saved it",
        ) from error


def _check_agreement(table: AdapterTable, config: Any) -> None:
    """Every key that the table sets must say what the folder says."""
    there = as_table(config)
    kind = config.peft_type.value.lower()
    wanted: dict[str, tuple[str, Any]] = {}  # peft's name -> (the key in the run file, its value)
    if table.type != "saved":
        own = "lora" if table.type in LORA_VARIANTS else table.type
        if own != kind:
            raise _contradiction("type", table.type, kind)
        wanted |= {key: ("type", value) for key, value in VARIANTS.get(table.type, {}).items()}
    for key, value in table.chosen.items():
        wanted[their_name(key, list(there)) or key] = (key, value)
    wanted |= {key: (key, value) for key, value in table.params.items()}
    for name, (key, value) in wanted.items():
        if _in_order(value) != _in_order(there.get(name)):
            shown = table.type if key == "type" else value
            raise _contradiction(key, shown, there.get(name, "nothing of the kind"))


def _in_order(value: Any) -> Any:
    """Names of modules count as a set."""
    return sorted(value) if isinstance(value, list) else value


def _contradiction(key: str, value: Any, found: Any) -> ModelError:
    return ModelError(
        f"adapter.{key} = {value!r} contradicts adapter.start, whose folder says {found!r}",
        code="adapter.start",
        allowed=f"the folder's own value, or no adapter.{key}",
        remedy=f"remove adapter.{key}: it comes from the folder",
    )
