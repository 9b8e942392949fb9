"""A base whose matrices are held in 8 or 4 bits (Dettmers et al. 2023, QLoRA, arXiv 2305.14314).

    8bit   bitsandbytes LLM.int8(): products in 8 bits, outlying columns in fp16
    4bit   bitsandbytes NF4 with quantised scales: widened to `model.dtype` for every product
    int8   torchao, weights alone: widened for every product

All else stays in `model.dtype`: norms, embeddings and heads. With "fp32" that is what peft's
`prepare_model_for_kbit_training` makes of a model; adapters are fp32 in any case.
"""

from __future__ import annotations

import importlib.util
import logging
from typing import Any

import torch

from fedpeft.errors import ModelError

PACKAGES = {"8bit": "bitsandbytes", "4bit": "bitsandbytes", "int8": "torchao"}

HEADS = ["lm_head", "classifier", "score", "pooler", "pre_classifier", "pre_head"]
"""Names of layers that are left as they are: output layers, and those that a classifier may have to train."""


def quantization_options(quantization: str, dtype: torch.dtype, device: torch.device) -> dict[str, Any]:
    """What `from_pretrained` is to be told; nothing for "none".

    Args:
        quantization: "none", "8bit", "4bit" or "int8".
        dtype: of all that is not quantised, and of the products of "4bit".
        device: the model is loaded there: what is quantised is not moved any more.

    Raises:
        ModelError: the package is not installed.
    """
    if quantization == "none":
        return {}
    package = PACKAGES[quantization]
    if importlib.util.find_spec(package) is None:
        raise ModelError(
            f'model.quantization = "{quantization}" needs the package {package}, which is not installed',
            code="model.no-quantization",
            allowed='"none"' + "".join(f', "{name}"' for name, p in PACKAGES.items() if importlib.util.find_spec(p)),
            remedy="pip install 'fedpeft[quantization]'",
        )
    import transformers

    if package == "bitsandbytes":
        logging.getLogger("bitsandbytes").setLevel(logging.ERROR)  # it tells of every product's cast to fp16
        how: Any = transformers.BitsAndBytesConfig(
            load_in_8bit=quantization == "8bit",
            load_in_4bit=quantization == "4bit",
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=dtype,
            llm_int8_skip_modules=HEADS,
        )
    else:
        from torchao.quantization import Int8WeightOnlyConfig

        how = transformers.TorchAoConfig(Int8WeightOnlyConfig(), modules_to_not_convert=HEADS)
    return {"quantization_config": how, "device_map": {"": device}}


def keep_trainable(model: Any) -> None:
    """Keep bitsandbytes from packing 4-bit matrices for inference, in place: what it packs has no gradient.

    On processors with AVX512-BF16 it does so at the first forward pass in eval mode, in which a frozen base always is.
    """
    for module in model.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False


def quantization_of(model: Any) -> str:
    """How a loaded model is quantised, in words; empty if it is not."""
    config = getattr(getattr(model, "config", None), "quantization_config", None)
    method = getattr(config, "quant_method", None)
    if config is None or method is None:
        return ""
    if getattr(config, "load_in_4bit", False):
        return "4 bits (NF4, bitsandbytes)"
    return "8 bits (bitsandbytes)" if getattr(config, "load_in_8bit", False) else "8 bits (torchao)"
