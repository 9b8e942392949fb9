"""Write an adapter as the world expects it: a plain HF peft folder, or the model with the adapter merged in."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import safetensors.torch

from fedpeft.adapters.flat import FlatAdapter
from fedpeft.errors import ModelError
from fedpeft.kernels import uninstall
from fedpeft.paths import write_atomically


def export_adapter(adapter: FlatAdapter, folder: Path, *, base_name: str) -> Path:
    """Write `adapter_config.json`, `adapter_model.safetensors` and peft's README to `folder`.

    `peft.PeftModel.from_pretrained(base, folder)` then gives the same logits.

    Args:
        adapter: what to write, with the θ that it holds now.
        folder: created if need be.
        base_name: what the folder says its base is: a hub id, never a path of this machine when the model has a name.
    """
    folder.mkdir(parents=True, exist_ok=True)
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


def export_merged(adapter: FlatAdapter, folder: Path, tokenizer: Any) -> Path:
    """Write the base with the adapter merged into its weights: an ordinary `transformers` folder.

    Of a model that is not of `transformers`, its weights alone go to `model.safetensors`. The adapter is merged in
    place: do not train with it afterwards.

    Raises:
        ModelError: this type of adapter cannot be merged.
    """
    if not hasattr(adapter.model, "merge_and_unload"):
        raise ModelError(
            "this model has no merge: its adapter cannot be folded into its weights",
            code="adapter.no-merge",
            remedy="export the adapter folder instead",
        )
    folder.mkdir(parents=True, exist_ok=True)
    uninstall(adapter.model)  # merging changes the base's weights, which a kernel may hold packed
    merged = adapter.model.merge_and_unload()
    if hasattr(merged, "save_pretrained"):
        merged.save_pretrained(str(folder))
    else:
        safetensors.torch.save_model(merged, str(folder / "model.safetensors"))
    if tokenizer is not None:
        tokenizer.save_pretrained(str(folder))
    return folder
