"""Put a peft adapter on a frozen base, after checking that it fits, and say so in the words of the run file."""

from __future__ import annotations

import copy
import warnings
from typing import Any

import numpy as np
import peft
import torch

from fedpeft.adapters.flat import FlatAdapter
from fedpeft.config import AdapterTable
from fedpeft.errors import ModelError, closest
from fedpeft.randomness.streams import Stream, derive, derive_seed


def lora_config(adapter: AdapterTable, *, classifier: bool = False) -> Any:
    """The peft configuration of an `[adapter]` table.

    The pooler is left out: mean pooling never reads it, so its adapters would travel without ever being trained.
    """
    return peft.LoraConfig(
        r=adapter.rank,
        lora_alpha=adapter.alpha,
        lora_dropout=adapter.dropout,
        target_modules=adapter.target_modules,
        exclude_modules=None if classifier else r".*pooler.*",
        task_type=peft.TaskType.SEQ_CLS if classifier else None,
    )


def build_adapter(model: torch.nn.Module, config: Any, *, seed: int) -> FlatAdapter:
    """Wrap `model` with the adapter that `config` describes and give it its seeded initial value.

    LoRA's A is uniform in ±1/√fan_in, as peft initialises it, but drawn from the run's own stream, so that every
    machine derives the same θ_0 and it never travels; B is zero. Other tensors keep what peft gives them under a
    fixed torch seed.

    Args:
        model: the frozen base; it is changed in place, as peft does.
        config: any peft configuration object; it is copied, since peft fills in and changes the one it is given.
        seed: the run's seed.

    Raises:
        ModelError: a target module that the model lacks, a rank above a layer's size, nothing to train.
    """
    config = copy.deepcopy(config)
    _check_fit(model, config)
    torch.manual_seed(derive_seed(seed, "peft-init") % 2**63)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # peft repeats what `_check_fit` has already settled
            wrapped = peft.get_peft_model(model, config)
    except ValueError as error:
        raise ModelError(
            f"adapter: peft refused the configuration: {error}",
            code="adapter.refused",
            remedy="correct the [adapter] table or the peft configuration",
        ) from error
    adapter = FlatAdapter(wrapped.eval())
    theta = adapter.get()
    for tensor in adapter.layout.tensors:
        if ".lora_A" in tensor.name:
            bound = 1.0 / np.sqrt(tensor.shape[-1])
            draw = Stream(derive(seed, "lora-A", tensor.name)).uniform(tensor.size)
            theta[tensor.offset : tensor.offset + tensor.size] = ((2.0 * draw - 1.0) * bound).astype(np.float32)
    adapter.set(theta)
    return adapter


def _check_fit(model: torch.nn.Module, config: Any) -> None:
    linear = {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Linear) or type(module).__name__ == "Conv1D"
    }
    targets = config.target_modules if hasattr(config, "target_modules") else None
    chosen = dict(linear)
    if isinstance(targets, (list, set, tuple)):
        modules = [name for name, _ in model.named_modules()]
        endings = sorted({name.rsplit(".", 1)[-1] for name in linear})
        for target in sorted(targets):
            if not any(name == target or name.endswith(f".{target}") for name in modules):
                raise ModelError(
                    f'adapter.target_modules: the model has no module "{target}"',
                    code="adapter.no-module",
                    allowed=", ".join(endings) + ', or "all-linear"',
                    remedy=closest(target, endings) or "name modules of this model",
                )
        chosen = {
            name: module for name, module in linear.items() if any(name == t or name.endswith(f".{t}") for t in targets)
        }
    rank = getattr(config, "r", None)
    if isinstance(rank, int) and chosen and targets is not None:
        name, smallest = min(((n, min(m.weight.shape)) for n, m in chosen.items()), key=lambda pair: pair[1])
        if rank < 1 or (rank > smallest and config.peft_type == peft.PeftType.LORA):
            raise ModelError(
                f"adapter.rank = {rank} does not fit: the layer {name} is only {smallest} wide",
                code="adapter.rank",
                allowed=f"1 to {smallest}",
                remedy="lower adapter.rank or leave that layer out of adapter.target_modules",
            )
