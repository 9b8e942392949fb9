"""Write a pruned model: as an ordinary `transformers` folder where the architecture's configuration has words for it.

Every layer keeps as many heads and channels as the others, so a configuration needs three numbers: heads, channels, and
the size of a head, which must not follow from the model's width. Llama, Mistral, Qwen2 and ViT have them (`head_dim`),
though Llama refuses a number of heads that does not divide its width. BERT and GPT-2 divide the width by the number of
heads, and would take the kept heads for larger ones. Whether it works is seen beforehand: the architecture is made of
the configuration, without memory for its weights, and must have the shapes of what is to be written.

Else the folder has the weights and the mask, and `fedpeft.load_pruned` loads it (`fedpeft.pruning.loading`).
"""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import safetensors.torch
import torch

from fedpeft.adapters.cut import linear_shape
from fedpeft.adapters.export import merge, write_model
from fedpeft.paths import write_atomically
from fedpeft.pruning.anatomy import FAMILIES, Anatomy
from fedpeft.pruning.loading import CONFIG, MASK, WEIGHTS, describe
from fedpeft.pruning.mask import unpack
from fedpeft.pruning.shrink import Pruner
from fedpeft.types import FloatArray


def export_pruned(pruner: Pruner, mask: bytes, theta: FloatArray, folder: Path, tokenizer: Any) -> Path:
    """Write the model that a mask leaves, with its part of the adapter merged in: do not train the full one afterwards.

    Args:
        pruner: of the full model.
        mask: what is kept.
        theta: of the full model, shape (d,).
        folder: created if need be; `needs_loader` says which kind it became.
        tokenizer: or image processor, written beside it; None: none.

    Raises:
        ModelError: this type of adapter cannot be merged into weights.
    """
    smaller = pruner.shrunk(mask)
    smaller.adapter.set(theta[smaller.places])
    settings = _in_words(pruner, mask, smaller.adapter.model)
    merged = merge(smaller.adapter)
    if settings is not None and _says_all(settings, merged):
        merged.config = settings
        write_model(merged, folder, tokenizer)
        for name in (MASK, WEIGHTS):  # of an earlier export to this folder
            (folder / name).unlink(missing_ok=True)
        return folder
    return _write_cut(merged, pruner, mask, folder, tokenizer)


def needs_loader(folder: Path) -> bool:
    """Whether a pruned model's folder is for `fedpeft.load_pruned`, not for `transformers`."""
    return (folder / MASK).is_file()


def _in_words(pruner: Pruner, mask: bytes, model: Any) -> Any:
    """A configuration of the smaller model; None where the architecture has none."""
    whole = pruner.adapter.model.config
    if not FAMILIES[whole.model_type].head_dim:
        return None
    settings, kept = copy.deepcopy(whole), unpack(mask, pruner.units.sizes)
    heads, channels = pruner.units.groups[:2]  # of the first layer, and so of every
    columns = next(cut for cut in pruner.anatomy.cuts if cut.group == 0 and cut.side == 1).module
    size = model.get_submodule(pruner.anatomy.attentions[0][0]).head_dim
    try:
        settings.head_dim = size
        settings.num_attention_heads = linear_shape(model.get_submodule(columns))[1] // size
        if hasattr(settings, "num_key_value_heads"):
            settings.num_key_value_heads = int(kept[heads.units].sum())
        settings.intermediate_size = int(kept[channels.units].sum())
    except ValueError:  # a configuration may refuse a value as it is set
        return None
    return settings


def _says_all(settings: Any, model: Any) -> bool:
    """Whether a configuration is a valid one, and of it comes a model of these very shapes."""
    try:
        with torch.device("meta"):
            empty = type(model)(type(settings).from_dict(settings.to_dict()))
    except Exception:  # architectures have many ways to refuse one
        return False
    return _shapes(empty) == _shapes(model)


def _shapes(model: Any) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}


def _write_cut(model: Any, pruner: Pruner, mask: bytes, folder: Path, tokenizer: Any) -> Path:
    """Weights, the full model's configuration, and the mask last: a folder that has one is whole."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / MASK).unlink(missing_ok=True)
    tensors: dict[str, torch.Tensor] = {}
    seen: set[int] = set()
    for name, tensor in model.state_dict(keep_vars=True).items():
        if id(tensor) not in seen:  # one of two names of a tied tensor is enough
            seen.add(id(tensor))
            dtype = model.dtype if tensor.is_floating_point() else tensor.dtype
            tensors[name] = tensor.detach().to("cpu", dtype).contiguous().clone()  # trained ones are views into one θ
    safetensors.torch.save_file(tensors, str(folder / WEIGHTS), metadata={"format": "pt"})
    settings = copy.deepcopy(model.config)
    settings.architectures, settings.dtype = [type(model).__name__], model.dtype
    write_atomically(folder / CONFIG, settings.to_json_string().encode())
    if tokenizer is not None:
        tokenizer.save_pretrained(str(folder))
    kept = unpack(mask, pruner.units.sizes)
    write_atomically(folder / "README.md", _card(type(model).__name__, pruner.anatomy, int(kept.sum())).encode())
    table = describe(pruner.anatomy, kept, type(model).__name__)
    lines = ",\n".join(f"    {json.dumps(layer)}" for layer in table.pop("layers"))
    head = json.dumps(table, indent=2).removesuffix("\n}")
    write_atomically(folder / MASK, f'{head},\n  "layers": [\n{lines}\n  ]\n}}\n'.encode())
    return folder


def _card(architecture: str, anatomy: Anatomy, kept: int) -> str:
    count = sum(group.size for group in anatomy.groups)
    return (
        f"# A pruned {architecture}\n\n{kept} of {count} attention heads and feed-forward channels are left, the same "
        f"number in every layer; `{MASK}` says which. The configuration of this architecture has no words for such a "
        f"model, so `transformers` cannot load `{WEIGHTS}`. This can:\n\n"
        '```python\nimport fedpeft\n\nmodel = fedpeft.load_pruned("this folder")\n```\n'
    )


__all__ = ["export_pruned", "needs_loader"]
