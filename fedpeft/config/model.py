"""`[model]` and `[adapter]`: the frozen base, and what of it is trained."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from fedpeft.config.table import Positive, Table


class ModelTable(Table):
    """`[model]`: the frozen base and how it is put to the task."""

    source: str  # folder, hub id, or "package:NAME" for a Python package that carries a model folder
    name: str | None = None  # hub id that the exported adapter names as its base; default: `source` unless a package
    task: str = "label-names"  # label-names | linear-head
    temperature: float = Field(20.0, gt=0)  # label-names: multiplies the cosine before the softmax
    max_length: Positive = 64  # tokens a text is cut to
    dtype: Literal["fp32", "bf16"] = "fp32"  # of the frozen base; the adapter and its optimizer are always fp32


class AdapterTable(Table):
    """`[adapter]`: what is trained. LoRA's layers are HF peft's; the other keys are LoRA's."""

    type: str = "lora"  # lora | bitfit | ssf
    rank: Positive = 8  # checked against the model's layers when the model is known
    alpha: float = Field(16.0, gt=0)  # LoRA scaling is alpha / rank
    target_modules: str | list[str] = "all-linear"  # names as peft takes them, or "all-linear"
    dropout: float = Field(0.0, ge=0, lt=1)
