"""Where a model keeps its heads and channels: what each architecture calls the matrices around them.

Known by `config.model_type` and found by their names; an architecture that is not here is refused by name. To add one,
add a line to `FAMILIES` and one to the list in `tests/pruning/`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from fedpeft.adapters import FlatAdapter
from fedpeft.adapters.cut import base_matrix, linear_shape
from fedpeft.errors import ModelError
from fedpeft.pruning.units import Group, Kind, Units


@dataclass(frozen=True, slots=True)
class Family:
    """The names of one architecture, inside a block such as `encoder.layer.3`."""

    blocks: str  # the list of blocks
    attention: str  # the module that splits its input into heads
    before: tuple[str, ...]  # matrices whose outputs are the heads'
    after: str  # the matrix whose inputs are the heads'
    into: tuple[str, ...]  # matrices whose outputs are the channels
    out: str  # the matrix whose inputs are the channels
    head_dim: bool = False  # whether its configuration has the size of a head apart from the model's width
    parts: int = 1  # of each matrix of `before`, one behind the other: GPT-2 holds query, key and value in one


_BERT = Family(
    "encoder.layer",
    "attention.self",
    ("attention.self.query", "attention.self.key", "attention.self.value"),
    "attention.output.dense",
    ("intermediate.dense",),
    "output.dense",
)
_VIT = Family(
    "layers",
    "attention",
    ("attention.q_proj", "attention.k_proj", "attention.v_proj"),
    "attention.o_proj",
    ("mlp.fc1",),
    "mlp.fc2",
    head_dim=True,
)
_GPT2 = Family("h", "attn", ("attn.c_attn",), "attn.c_proj", ("mlp.c_fc",), "mlp.c_proj", parts=3)
_LLAMA = Family(
    "layers",
    "self_attn",
    ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
    "self_attn.o_proj",
    ("mlp.gate_proj", "mlp.up_proj"),
    "mlp.down_proj",
    head_dim=True,
)

FAMILIES: dict[str, Family] = {
    **dict.fromkeys(("bert", "roberta", "xlm-roberta"), _BERT),
    "vit": _VIT,
    "gpt2": _GPT2,
    **dict.fromkeys(("llama", "mistral", "qwen2"), _LLAMA),
}
"""By `config.model_type`."""


@dataclass(frozen=True, slots=True)
class Cut:
    """One matrix that is cut along one side."""

    module: str  # its layer's name in the model
    side: int  # 0: outputs, rows; 1: inputs, columns
    group: int  # of units
    places: tuple[tuple[int, ...], ...]  # of each unit: the rows or columns that are its own


@dataclass(frozen=True, slots=True)
class Anatomy:
    """The units of one model, and all that is cut for them."""

    groups: tuple[Group, ...]
    cuts: tuple[Cut, ...]
    attentions: tuple[tuple[str, int], ...]  # the module that knows how many heads there are, and its group

    def units(self, adapter: FlatAdapter) -> Units:
        """Which trained value belongs to which unit.

        Raises:
            ModelError: something else than LoRA's factors is trained in a layer that is cut.
        """
        unit_of = np.full(adapter.layout.size, -1, dtype=np.int32)
        specs = {tensor.name: tensor for tensor in adapter.layout.tensors}
        factors = (".lora_A.weight", ".lora_B.weight")
        for cut in self.cuts:
            other = [name for name in specs if name.startswith(f"{_inner(cut.module)}.") and not name.endswith(factors)]
            if other:
                raise ModelError(
                    f"pruning cannot cut {other[0]}, which is trained beside LoRA's factors",
                    code="pruning.layer",
                    allowed="A and B alone in the layers of the blocks",
                    remedy="train no biases or other weights there, or remove devices.pruning",
                )
            factor = "BA"[cut.side]  # rows are B's, columns are A's
            tensor = specs.get(f"{_inner(cut.module)}.lora_{factor}.weight")
            if tensor is None:  # frozen, or no LoRA on this layer
                continue
            owners = np.empty(tensor.shape[cut.side], dtype=np.int32)
            for number, places in enumerate(cut.places, start=self.groups[cut.group].start):
                owners[list(places)] = number
            whole = np.broadcast_to(owners[:, None] if cut.side == 0 else owners, tensor.shape)
            unit_of[tensor.offset : tensor.offset + tensor.size] = whole.reshape(-1)
        return Units(self.groups, unit_of)

    def magnitudes(self, adapter: FlatAdapter) -> np.typing.NDArray[np.float64]:
        """L2 norm of the frozen weights of each unit, shape (U,)."""
        squares = np.zeros(sum(group.size for group in self.groups))
        for cut in self.cuts:
            matrix = base_matrix(adapter.model.get_submodule(cut.module)).double()
            own = matrix.square().sum(dim=1 - cut.side).cpu().numpy()
            group = self.groups[cut.group]
            squares[group.units] += [own[list(places)].sum() for places in cut.places]
        return np.sqrt(squares)


def anatomy_of(model: Any) -> Anatomy:
    """Find the heads and channels of a model, adapter and all.

    Raises:
        ModelError: its architecture is not known, or its layers are not what the architecture's usually are.
    """
    kind = str(getattr(getattr(model, "config", None), "model_type", "") or type(model).__name__)
    family = FAMILIES.get(kind)
    if family is None:
        raise ModelError(
            f'pruning does not know the architecture "{kind}"',
            code="pruning.architecture",
            allowed=", ".join(sorted(FAMILIES)),
            remedy="remove devices.pruning, or use a model of one of these architectures",
        )
    groups: list[Group] = []
    cuts: list[Cut] = []
    attentions: list[tuple[str, int]] = []

    def add(layer: int, kind: Kind, units: int, before: Sequence[str], after: str, parts: int) -> None:
        start = groups[-1].units.stop if groups else 0
        groups.append(Group(layer, kind, start, units))
        place = len(groups) - 1
        cuts.extend(Cut(name, 0, place, _split(_shape(model, name)[0], units, parts)) for name in before)
        cuts.append(Cut(after, 1, place, _split(_shape(model, after)[1], units, 1)))

    for layer, block in enumerate(_blocks(model, family)):
        before = [f"{block}.{name}" for name in family.before]
        into = [f"{block}.{name}" for name in family.into]
        attention = f"{block}.{family.attention}"
        attentions.append((attention, len(groups)))
        heads = _heads(model, attention, before, family.parts)
        add(layer, "heads", heads, before, f"{block}.{family.after}", family.parts)
        add(layer, "channels", _shape(model, into[0])[0], into, f"{block}.{family.out}", 1)
    return Anatomy(tuple(groups), tuple(cuts), tuple(attentions))


def _blocks(model: Any, family: Family) -> list[str]:
    pattern = re.compile(rf"(.*\.)?{re.escape(family.blocks)}\.(\d+)")
    found = [(int(match[2]), name) for name, _ in model.named_modules() if (match := pattern.fullmatch(name))]
    blocks = [name for _, name in sorted(found)]
    if not blocks or len({name.rpartition(".")[0] for name in blocks}) != 1:
        raise ModelError(
            f"pruning finds no single list of blocks {family.blocks} in this model",
            code="pruning.architecture",
            allowed=f"one list of blocks that are called {family.blocks}.0, {family.blocks}.1, ...",
            remedy="remove devices.pruning",
        )
    return blocks


def _heads(model: Any, attention: str, before: Sequence[str], parts: int) -> int:
    """Heads of a layer; of grouped-query attention, groups of them: as many as there are keys."""
    module = model.get_submodule(attention)
    size = int(getattr(module, "attention_head_size", 0) or module.head_dim)
    return min(_shape(model, name)[0] for name in before) // parts // size


def _shape(model: Any, name: str) -> tuple[int, int]:
    return linear_shape(model.get_submodule(name))


def _split(size: int, units: int, parts: int) -> tuple[tuple[int, ...], ...]:
    """The places of each unit in a side of `size` that holds `parts` runs of all units."""
    return tuple(tuple(map(int, row)) for row in torch.arange(size).view(parts, units, -1).transpose(0, 1).flatten(1))


def _inner(name: str) -> str:
    """The name of a module without peft's wrapping, as tensors are named."""
    return name.removeprefix("base_model.model.").removeprefix("base_model.")
