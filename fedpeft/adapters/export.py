"""Write an adapter as the world expects it: a plain HF peft folder, or the model with the adapter merged in."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import safetensors.torch
from peft import PeftModel
from peft.tuners.trainable_tokens.layer import TrainableTokensLayer
from peft.tuners.tuners_utils import BaseTunerLayer

from fedpeft.adapters.flat import FlatAdapter, canonical_name
from fedpeft.adapters.kinds.ssf import ScaleShift, fold
from fedpeft.errors import ModelError
from fedpeft.kernels import uninstall
from fedpeft.paths import write_atomically

TENSORS = "trained.safetensors"


def export_adapter(adapter: FlatAdapter, folder: Path, *, base_name: str) -> Path:
    """Write `adapter_config.json`, `adapter_model.safetensors` and peft's README to `folder`.

    `peft.PeftModel.from_pretrained(base, folder)` then gives the same logits. What is no peft adapter goes to
    `trained.safetensors`, by the tensors' names in the model.

    Args:
        adapter: what to write, with the θ that it holds now.
        folder: created if need be.
        base_name: what the folder says its base is: a hub id, never a path of this machine when the model has a name.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for stale in ("README.md", "adapter_config.json", "adapter_model.safetensors", TENSORS):
        # peft would go on with the card that is there, and load the adapter of an earlier export in the other form
        (folder / stale).unlink(missing_ok=True)
    if not isinstance(adapter.model, PeftModel):
        return _export_tensors(adapter, folder, base_name)
    adapter.model.save_pretrained(str(folder))
    path = folder / "adapter_config.json"
    config: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    written = config.get("base_model_name_or_path")
    config["base_model_name_or_path"] = base_name
    write_atomically(path, json.dumps(config, indent=2, sort_keys=True).encode())
    card = folder / "README.md"
    if written and card.is_file():
        text = card.read_text(encoding="utf-8").replace(str(written), base_name)
        write_atomically(card, text.encode())
    return folder


def _export_tensors(adapter: FlatAdapter, folder: Path, base_name: str) -> Path:
    """What peft has no format for: the trained tensors by their names in the model, and how to load them."""
    tensors = {name: parameter.detach().cpu().contiguous() for name, parameter in adapter.parameters.items()}
    safetensors.torch.save_file(tensors, str(folder / TENSORS), metadata={"base_model": base_name})
    folds = any(isinstance(module, ScaleShift) for module in adapter.model.modules())
    load = (
        "They are scales and shifts after the layers of the base: `fedpeft export RUN --merged` folds them in."
        if folds
        else f'`model.load_state_dict(safetensors.torch.load_file("{TENSORS}"), strict=False)` loads them.'
    )
    card = f"# Trained tensors\n\n{len(tensors)} tensors of `{base_name}`, by their names in the model. {load}\n"
    write_atomically(folder / "README.md", card.encode())
    return folder


def export_merged(adapter: FlatAdapter, folder: Path, tokenizer: Any) -> Path:
    """Write the base with the adapter merged into its weights: an ordinary `transformers` folder.

    Of a model that is not of `transformers`, its weights alone go to `model.safetensors`. The adapter is merged in
    place: do not train with it afterwards.

    Raises:
        ModelError: this type of adapter cannot be merged into weights.
    """
    return write_model(merge(adapter), folder, tokenizer)


def merge(adapter: FlatAdapter) -> Any:
    """The base with the adapter merged into its weights, in place. Errors as `export_merged`."""
    uninstall(adapter.model)  # merging changes the base's weights, which a kernel may hold packed
    return _merge(adapter.model) if isinstance(adapter.model, PeftModel) else fold(adapter.model)


def write_model(model: Any, folder: Path, tokenizer: Any) -> Path:
    """Write a model without an adapter as `export_merged` does."""
    folder.mkdir(parents=True, exist_ok=True)
    if hasattr(model, "save_pretrained"):
        model.save_pretrained(str(folder))
    else:
        tensors = {name: tensor.contiguous().clone() for name, tensor in model.state_dict().items()}
        safetensors.torch.save_file(tensors, str(folder / "model.safetensors"))  # trained ones are views into one θ
    if tokenizer is not None:
        tokenizer.save_pretrained(str(folder))
    return folder


def check_mergeable(adapter: FlatAdapter) -> None:
    """Refuse an adapter that `merge` would refuse without trying.

    Raises:
        ModelError: it is a prompt, or on a layer whose weight another module shares.
    """
    if isinstance(adapter.model, PeftModel):
        _check_mergeable(adapter.model)


def _check_mergeable(model: Any) -> str:
    """The adapter's kind. Errors as `check_mergeable`."""
    kind = str(model.active_peft_config.peft_type.value).lower()
    if model.active_peft_config.is_prompt_learning:
        raise _unmergeable(kind, "its vectors stand before the text, not in a weight")
    shared = _shared_layer(model)
    if shared is not None:
        raise _unmergeable(kind, f"{shared[0]} shares its weight with {shared[1]}, and merging would change both")
    return kind


def _merge(model: Any) -> Any:
    kind = _check_mergeable(model)
    try:
        return model.merge_and_unload()
    except (NotImplementedError, AttributeError, ValueError, TypeError) as error:
        raise _unmergeable(kind, str(error).splitlines()[0] if str(error) else "peft has no rule for it") from error


def _shared_layer(model: Any) -> tuple[str, str] | None:
    """A layer with an adapter whose weight another module has too, e.g. an output layer tied to the embedding."""
    homes: dict[int, list[str]] = {}
    for name, module in model.named_modules():
        for parameter in module.parameters(recurse=False):
            homes.setdefault(id(parameter), []).append(name)
    for name, module in model.named_modules():
        if isinstance(module, BaseTunerLayer) and not isinstance(module, TrainableTokensLayer):  # which is for both
            weight = getattr(module.get_base_layer(), "weight", None)
            others = [home for home in homes.get(id(weight), ()) if not home.startswith(f"{name}.") and home != name]
            if others:
                return canonical_name(name), canonical_name(others[0])
    return None


def _unmergeable(kind: str, reason: str) -> ModelError:
    return ModelError(
        f'an adapter of type "{kind}" cannot be merged into the base\'s weights: {reason}',
        code="adapter.unmergeable",
        allowed="the adapter as a folder of its own",
        remedy="export it without merging: PeftModel.from_pretrained loads it on the base",
    )
