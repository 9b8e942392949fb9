"""Layouts of the flat vector: how tensors are laid out in it, and which of them parts of their names stand for.

Both sides of a federation need this; neither torch nor peft is needed for it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from fedpeft.errors import ModelError, closest
from fedpeft.types import LORA_A, LORA_B, Layout, TensorSpec


def make_layout(shapes: dict[str, tuple[int, ...]]) -> Layout:
    """Lay tensors out in sorted name order.

    Args:
        shapes: canonical name -> shape.
    """
    tensors, offset, digest = [], 0, hashlib.sha256()
    for name in sorted(shapes):
        spec = TensorSpec(name, tuple(shapes[name]), offset)
        tensors.append(spec)
        offset += spec.size
        digest.update(f"{name}:{','.join(map(str, spec.shape))};".encode())
    return Layout(tuple(tensors), offset, digest.hexdigest())


def named(layout: Layout, parts: Sequence[str], key: str) -> set[str]:
    """The names of the tensors that any of `parts` is a part of.

    A part is one or more names between dots: `lora_B` is a part of `encoder.0.query.lora_B.weight`, as are
    `query.lora_B` and `encoder.0`; `lora` is none.

    Args:
        layout: where to look.
        parts: of names.
        key: of the run file's table `[adapter]`, for the error.

    Raises:
        ModelError: a part that no tensor has; names those that there are.
    """
    found: set[str] = set()
    for part in parts:
        own = {tensor.name for tensor in layout.tensors if part and f".{part}." in f".{tensor.name}."}
        if not own:
            words = list(dict.fromkeys(word for tensor in layout.tensors for word in tensor.name.split(".")))
            raise ModelError(
                f'no trained tensor has "{part}" in its name, as adapter.{key} or the strategy asks',
                code=f"adapter.not-{key}",
                allowed=", ".join(words[:40]),
                remedy=closest(part, words)
                or f"name a part of the trained tensors' names, or train an adapter that has {part}",
            )
        found |= own
    return found


def axis_of(tensor: TensorSpec) -> int | None:
    """The axis of a LoRA factor that its components lie on; None: it is none."""
    if tensor.name.endswith(LORA_A):
        return 0
    return 1 if tensor.name.endswith(LORA_B) else None
