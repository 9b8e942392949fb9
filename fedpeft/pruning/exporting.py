"""Write a pruned model as an ordinary `transformers` folder, where the architecture's configuration has words for it.

Every layer keeps as many heads and channels as the others, so a configuration needs three numbers: heads, channels, and
the size of a head, which must not follow from the model's width. Llama, Mistral, Qwen2 and ViT have them (`head_dim`);
BERT and GPT-2 divide the width by the number of heads, and would take the kept heads for larger ones.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fedpeft.adapters.cut import linear_shape
from fedpeft.adapters.export import export_merged
from fedpeft.errors import ModelError
from fedpeft.pruning.anatomy import FAMILIES
from fedpeft.pruning.mask import unpack
from fedpeft.pruning.shrink import Pruner
from fedpeft.types import FloatArray


def export_pruned(pruner: Pruner, mask: bytes, theta: FloatArray, folder: Path, tokenizer: Any) -> Path:
    """Write the model that a mask leaves, with its part of the adapter merged in: do not train the full one afterwards.

    Args:
        pruner: of the full model.
        mask: what is kept.
        theta: of the full model, shape (d,).
        folder: created if need be.
        tokenizer: or image processor, written beside it; None: none.

    Raises:
        ModelError: this architecture has no configuration for it.
    """
    check_expressible(pruner)
    smaller = pruner.shrunk(mask)
    smaller.adapter.set(theta[smaller.places])
    model = smaller.adapter.model
    config = model.get_base_model().config
    kept = unpack(mask, pruner.units.sizes)
    heads, channels = pruner.units.groups[:2]  # of the first layer, and so of every
    config.head_dim = model.get_submodule(pruner.anatomy.attentions[0][0]).head_dim
    columns = next(cut for cut in pruner.anatomy.cuts if cut.group == 0 and cut.side == 1).module
    config.num_attention_heads = linear_shape(model.get_submodule(columns))[1] // config.head_dim
    if hasattr(config, "num_key_value_heads"):
        config.num_key_value_heads = int(kept[heads.units].sum())
    config.intermediate_size = int(kept[channels.units].sum())
    return export_merged(smaller.adapter, folder, tokenizer)


def check_expressible(pruner: Pruner) -> None:
    """Raise `ModelError` if the architecture derives the size of a head from its width."""
    kind = pruner.adapter.model.config.model_type
    if not FAMILIES[kind].head_dim:
        raise ModelError(
            f'a pruned model of the architecture "{kind}" cannot be written as an ordinary folder: its configuration '
            "has no size of a head apart from its width",
            code="pruning.export",
            allowed=", ".join(sorted(name for name, family in FAMILIES.items() if family.head_dim)),
            remedy="export the adapter of the full model, without --pruned",
        )
