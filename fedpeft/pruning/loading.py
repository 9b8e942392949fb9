"""Load a pruned model for which its architecture's configuration has no words: `fedpeft.load_pruned(folder)`.

    config.json           of the full model
    pruning.json          which heads and channels of each layer are there
    pruned.safetensors    the weights that are left, by the names of the full model's, an adapter merged in

The architecture is made as `config.json` says, by the class of `transformers` that `pruning.json` names, then cut as
the federation cut it, and filled. Nothing in the folder is run or unpickled.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import safetensors.torch
import torch
from safetensors import SafetensorError

from fedpeft.errors import ModelError
from fedpeft.pruning.anatomy import FAMILIES, Anatomy, anatomy_of
from fedpeft.pruning.shrink import cut_model

CONFIG, MASK, WEIGHTS = "config.json", "pruning.json", "pruned.safetensors"

FORMAT = "fedpeft-pruned-1"
"""What `pruning.json` says of itself."""


def load_pruned(folder: str | Path) -> torch.nn.Module:
    """The smaller model of a folder that `fedpeft export --pruned` wrote, head and all, in eval mode on the CPU.

    It is an object of its architecture's own class, whose `config` is the full model's: its forward pass and `generate`
    work, its `save_pretrained` would write a folder that nobody can load.

    Args:
        folder: with `config.json`, `pruning.json` and `pruned.safetensors`.

    Raises:
        ModelError: a file is missing or damaged, or they are not of one model.
    """
    folder = Path(folder)
    told, settings = _table(folder, MASK), _table(folder, CONFIG)
    if told.get("format") != FORMAT:
        raise _bad(folder, f"{MASK} has the format {told.get('format')!r}", f'"{FORMAT}"')
    model = _empty(folder, told.get("architecture"), settings)
    anatomy = anatomy_of(model)
    cut_model(model, anatomy, _kept(folder, told.get("layers"), anatomy))
    _fill(folder, model)
    loaded: torch.nn.Module = model.eval()
    return loaded


def describe(anatomy: Anatomy, kept: npt.NDArray[np.bool_], architecture: str) -> dict[str, Any]:
    """What `pruning.json` says.

    Args:
        anatomy: of the model.
        kept: which units are there, shape (U,).
        architecture: the name of its class in `transformers`.
    """
    layers: list[dict[str, Any]] = [{} for _ in range(1 + max(group.layer for group in anatomy.groups))]
    for group in anatomy.groups:
        layers[group.layer][group.kind] = {"of": group.size, "kept": np.flatnonzero(kept[group.units]).tolist()}
    return {"format": FORMAT, "architecture": architecture, "layers": layers}


def _empty(folder: Path, name: Any, settings: dict[str, Any]) -> Any:
    """The full model with any values."""
    import transformers
    from transformers.initialization import no_init_weights

    kind = getattr(transformers, name, None) if isinstance(name, str) else None
    if not (isinstance(kind, type) and issubclass(kind, transformers.PreTrainedModel)):
        raise _bad(folder, f"{MASK} has the architecture {name!r}", "the name of a model's class in transformers")
    form: Any = getattr(kind, "config_class", None)
    if settings.get("model_type") != getattr(form, "model_type", None) or settings["model_type"] not in FAMILIES:
        found = f"{CONFIG} has the model_type {settings.get('model_type')!r}, and {MASK} the architecture {name}"
        raise _bad(folder, found, f"one of {', '.join(sorted(FAMILIES))}, and a class of it")
    # what names code: implementations of attention may be fetched from a hub
    plain = {key: value for key, value in settings.items() if "implementation" not in key and key != "auto_map"}
    try:
        with no_init_weights():
            return kind(form.from_dict(plain))
    except Exception as error:  # whatever a configuration's values do to the architecture
        raise _bad(folder, f"{CONFIG} makes no {name}: {_first_line(error)}", "the file as it was exported") from error


def _kept(folder: Path, layers: Any, anatomy: Anatomy) -> npt.NDArray[np.bool_]:
    """Which units are there, shape (U,)."""
    kept = np.zeros(sum(group.size for group in anatomy.groups), dtype=bool)
    for group in anatomy.groups:
        try:
            entry = layers[group.layer][group.kind]
            of, numbers = entry["of"], entry["kept"]
        except (KeyError, IndexError, TypeError):
            of, numbers = None, None
        whole = isinstance(numbers, list) and all(type(number) is int for number in numbers)
        if of != group.size or not whole or not numbers or sorted(set(numbers) & set(range(of))) != numbers:
            allowed = (
                f'{{"of": {group.size}, "kept": [...]}} with numbers from 0 to {group.size - 1} in order, one or more'
            )
            raise _bad(folder, f"{MASK} does not say which {group.kind} of layer {group.layer} there are", allowed)
        kept[group.start + np.array(numbers)] = True
    return kept


def _fill(folder: Path, model: Any) -> None:
    """Give a cut model its weights."""
    try:
        tensors = safetensors.torch.load_file(str(folder / WEIGHTS))
    except (OSError, SafetensorError) as error:
        raise _bad(folder, f"{WEIGHTS} cannot be read: {_first_line(error)}", "the file as it was exported") from error
    own = model.state_dict(keep_vars=True)
    strange = [name for name, tensor in tensors.items() if name not in own or own[name].shape != tensor.shape]
    if strange:
        there = tuple(own[strange[0]].shape) if strange[0] in own else "nowhere"
        found = f"{WEIGHTS} has {strange[0]} of shape {tuple(tensors[strange[0]].shape)}, which the model has {there}"
        raise _bad(folder, found, f"the weights that {MASK} leaves")
    missing = set(model.load_state_dict(tensors, strict=False, assign=True).missing_keys)
    if missing:  # one tensor under two names is written once
        model.tie_weights()
        filled = {id(each) for name, each in model.state_dict(keep_vars=True).items() if name in tensors}
        lacking = [name for name in sorted(missing) if id(model.state_dict(keep_vars=True)[name]) not in filled]
        if lacking:
            raise _bad(folder, f"{WEIGHTS} lacks {lacking[0]}", f"all weights that {MASK} leaves")


def _table(folder: Path, name: str) -> dict[str, Any]:
    try:
        found = json.loads((folder / name).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise _bad(folder, f"{name} cannot be read: {_first_line(error)}", f"{CONFIG}, {MASK}, {WEIGHTS}") from error
    if not isinstance(found, dict):
        raise _bad(folder, f"{name} is no table", "the file as it was exported")
    return found


def _first_line(error: BaseException) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)


def _bad(folder: Path, found: str, allowed: str) -> ModelError:
    return ModelError(
        f"{str(folder)!r} is no folder of a pruned model: {found}",
        code="pruning.folder",
        allowed=allowed,
        remedy="name a folder that `fedpeft export RUN --to DIR --pruned RATIO` wrote for this loader, or export it "
        "again; an ordinary folder is loaded by transformers",
    )


__all__ = ["load_pruned"]
