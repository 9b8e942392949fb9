"""What of `[model]`, `[adapter]` and `[local]` goes together: dtype, quantization, autocast, micro-batches."""

from __future__ import annotations

from fedpeft.config.adapter import WITHOUT_PEFT, AdapterTable
from fedpeft.config.engine import EngineTable
from fedpeft.config.model import ModelTable
from fedpeft.config.rounds import LocalTable
from fedpeft.explain import Contradiction


def check_precision(model: ModelTable, adapter: AdapterTable, local: LocalTable, engine: EngineTable) -> None:
    """Raise `Contradiction` where two of these keys cannot both be meant."""
    if model.quantization != "none" and adapter.type in WITHOUT_PEFT:
        raise Contradiction(
            f'model.quantization = "{model.quantization}" contradicts adapter.type = "{adapter.type}", which changes '
            "the base itself",
            allowed="a type of peft, e.g. lora",
            remedy='set model.quantization = "none", or adapter.type = "lora"',
        )
    if local.autocast != "off" and model.dtype == "bf16":
        raise Contradiction(
            f'local.autocast = "{local.autocast}" contradicts model.dtype = "bf16", which computes in bf16 already',
            allowed='local.autocast with model.dtype = "fp32"',
            remedy="remove one of them",
        )
    if local.autocast != "off" and engine.kernel not in ("auto", "torch"):
        raise Contradiction(
            f'local.autocast = "{local.autocast}" contradicts engine.kernel = "{engine.kernel}": '
            "autocast chooses the products itself",
            allowed='engine.kernel = "auto" or "torch"',
            remedy="remove one of them",
        )
    if local.accumulate > local.batch_size:
        raise Contradiction(
            f"local.accumulate = {local.accumulate} is more than local.batch_size = {local.batch_size}",
            allowed=f"1 to {local.batch_size}: a micro-batch has at least one example",
            remedy="lower local.accumulate: local.batch_size counts the examples of all its micro-batches",
        )
