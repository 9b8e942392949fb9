"""`[model]`: the frozen base."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from fedpeft.config.table import Positive, Table


class ModelTable(Table):
    """`[model]`: the frozen base and how it is put to the task."""

    source: str  # folder, hub id, "package:NAME" (a Python package that carries a model folder), or "model.py:function"
    name: str | None = None  # hub id that the exported adapter names as its base; default: `source` unless a package
    task: str = "label-names"  # label-names | linear-head | causal-lm | instructions | images: simulations/TASKS.md
    temperature: float = Field(20.0, gt=0)  # label-names: multiplies the cosine before the softmax
    max_length: Positive = 64  # tokens a text, or a chat with its answer, is cut to
    dtype: Literal["fp32", "bf16"] = "fp32"  # of the frozen base; the adapter and its optimizer are always fp32
    quantization: Literal["none", "8bit", "4bit", "int8"] = "none"  # of the base's matrices; 8bit and 4bit (NF4) by
    # bitsandbytes, int8 by torchao: the extra `quantization`
    device: str = Field(  # where base and adapter are; auto: a CUDA device if there is one, else the CPU
        "auto",
        pattern=r"^(auto|cpu|mps|cuda(:[0-9]+)?)$",
        description='"auto", "cpu", "cuda", "cuda:1", "mps"',
    )
