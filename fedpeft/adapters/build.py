"""Put a peft adapter on a frozen base, after checking that it fits, and say so in the words of the run file."""

from __future__ import annotations

import copy
import math
import re
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import peft
import torch
from peft.tuners.tuners_utils import BaseTunerLayer
from peft.utils.other import AuxiliaryTrainingWrapper

from fedpeft.adapters.flat import FlatAdapter
from fedpeft.adapters.prompts import leave_out_prompts, prepare_prompts
from fedpeft.adapters.seeded import seeded_torch
from fedpeft.adapters.unreached import check_reached, leave_out_unreached
from fedpeft.adapters.weights import load_weights
from fedpeft.config.adapter import NOT_FEDERATED
from fedpeft.errors import ModelError, closest
from fedpeft.randomness.streams import Stream, derive, derive_seed
from fedpeft.types import ALL_COMPONENTS

REFUSALS = (
    ValueError,
    TypeError,
    RuntimeError,
    AttributeError,
    KeyError,
    NotImplementedError,
    ImportError,
    AssertionError,
)
"""What peft's many types raise where a configuration does not fit a model."""


def build_adapter(
    model: torch.nn.Module,
    config: Any,
    *,
    seed: int,
    weights: Mapping[str, torch.Tensor] | None = None,
    merged: int = 0,
) -> FlatAdapter:
    """Wrap `model` with the adapter that `config` describes and give it its seeded initial value.

    LoRA's A is uniform in ±1/√fan_in, as peft initialises it, but drawn from the run's own stream, so that every
    machine derives the same θ_0 and it never travels; B is zero. Where the configuration asks for another initial value
    (`init_lora_weights`), and for all other tensors, it is peft's under a seed.

    Args:
        model: the frozen base; it is changed in place, as peft does. An adapter that an earlier call put on it is
            taken off first, so that a notebook's cell can be run again.
        config: any peft configuration object; it is copied, since peft fills in and changes the one it is given.
        seed: the run's seed.
        weights: of an adapter that was saved with this configuration; they are where θ starts.
        merged: components, of those that `config` has, that nobody trains: they stand for a part of the base and may
            fill a layer, whatever the rank beside them.

    Raises:
        ModelError: `config` is no peft configuration or of a type that a federation cannot train, a target module that
            the model lacks, a rank of 0 or above a layer's size, weights that do not fit, nothing to train.
    """
    _check_kinds(model, config)
    config = copy.deepcopy(config)
    _take_off(model)
    if config.is_prompt_learning:
        prepare_prompts(model, config)
    _check_targets(model, config)
    leave_out_unreached(model, config)
    _check_rank(model, config, merged)
    targets, excluded = getattr(config, "target_modules", None), getattr(config, "exclude_modules", None)
    if isinstance(excluded, str) and not _matches(excluded, [name for name, _ in model.named_modules()]):
        config.exclude_modules = None  # else peft warns whoever loads the exported adapter
    try:
        with warnings.catch_warnings(), seeded_torch(derive_seed(seed, "peft-init"), _device(model)):
            warnings.simplefilter("ignore")  # peft repeats what has been checked above
            wrapped = peft.get_peft_model(model, config)
    except REFUSALS as error:
        unnamed = "target_modules" in str(error)  # peft knows which they are in some architectures only
        raise ModelError(
            f"adapter: peft refused the configuration: {error}",
            code="adapter.refused",
            remedy=f"name {'other ' * bool(targets)}modules in adapter.target_modules"
            if unnamed
            else "correct the [adapter] table or the peft configuration",
        ) from error
    check_reached(model)
    if weights is not None:
        load_weights(wrapped, weights)
    if config.is_prompt_learning:
        leave_out_prompts(wrapped)
    adapter = FlatAdapter(wrapped.eval())
    _check_layers(adapter, merged)
    if getattr(config, "init_lora_weights", None) is True and weights is None:
        _draw(adapter, seed)
    return adapter


def build_own(model: torch.nn.Module, config: Any, *, seed: int) -> FlatAdapter:
    """As `build_adapter`; without a configuration, the parameters that the user left unfrozen are trained as they are.

    Raises:
        ModelError: as `build_adapter`; or nothing is left to train.
    """
    if config is not None:
        return _build_again(model, config, seed)
    if not isinstance(model, torch.nn.Module) or isinstance(model, peft.PeftModel):
        _check_kinds(model, peft.LoraConfig())
    return FlatAdapter(model.eval())


def _build_again(model: torch.nn.Module, config: Any, seed: int) -> FlatAdapter:
    """`build_adapter`, which can be called with this model once more: what it rewrites of the base is kept."""
    _check_kinds(model, config)
    how = getattr(config, "init_lora_weights", None)
    before = {}
    if isinstance(how, str) and how.startswith(_REWRITE):
        _take_off(model)
        before = {id(layer): layer.get_parameter("weight").detach().clone() for layer in linear_layers(model).values()}
    adapter = build_adapter(model, config, seed=seed)
    for module in adapter.model.modules():
        if isinstance(module, BaseTunerLayer) and id(module.get_base_layer()) in before:
            setattr(module, _BEFORE, before[id(module.get_base_layer())])
    return adapter


_REWRITE = ("pissa", "olora", "corda", "loftq")  # values of init_lora_weights that take the adapter out of the base
_BEFORE = "_weight_before"


def rank_of(config: Any) -> int | None:
    """The largest rank of LoRA layers; None of any other adapter, and of ranks that `build_adapter` will refuse."""
    if not isinstance(config, peft.LoraConfig):
        return None
    ranks = [config.r, *(config.rank_pattern or {}).values()]
    return max(ranks) if all(isinstance(rank, int) and 0 < rank < ALL_COMPONENTS for rank in ranks) else None


def _draw(adapter: FlatAdapter, seed: int) -> None:
    """Give every LoRA A, shape (r, fan_in...), its value from the run's stream."""
    theta = adapter.get()
    for tensor in adapter.layout.tensors:
        if tensor.name.endswith(".lora_A.weight"):
            bound = 1.0 / math.sqrt(math.prod(tensor.shape[1:]))
            draw = Stream(derive(seed, "lora-A", tensor.name)).uniform(tensor.size)
            theta[tensor.offset : tensor.offset + tensor.size] = ((2.0 * draw - 1.0) * bound).astype(np.float32)
    adapter.set(theta)


def _check_kinds(model: Any, config: Any) -> None:
    if not isinstance(config, peft.PeftConfig):
        raise ModelError(
            f"peft_config is a {type(config).__name__}, not a peft configuration",
            code="adapter.no-config",
            allowed="e.g. peft.LoraConfig(r=8, target_modules=[...])",
            remedy="pass a configuration object of peft",
        )
    kind = str(config.peft_type.value).lower()
    if kind in NOT_FEDERATED:
        raise ModelError(
            f"peft_config is a {type(config).__name__}, which cannot be trained by a federation: {NOT_FEDERATED[kind]}",
            code="adapter.kind",
            allowed="e.g. LoraConfig, IA3Config, LoHaConfig, PrefixTuningConfig",
            remedy="choose one of these",
        )
    if not isinstance(model, torch.nn.Module) or isinstance(model, peft.PeftModel):
        raise ModelError(
            f"model is a {type(model).__name__}, not a plain torch module",
            code="adapter.no-model",
            allowed="a torch.nn.Module without adapters",
            remedy="pass the base model; of a PeftModel, model.unload()",
        )


def _take_off(model: torch.nn.Module) -> None:
    """Put the base's own layers back in the place of peft's."""
    for name, module in list(model.named_modules()):
        if isinstance(module, BaseTunerLayer):
            own = module.get_base_layer()
            if hasattr(module, _BEFORE):
                own.get_parameter("weight").data.copy_(getattr(module, _BEFORE))
        elif isinstance(module, AuxiliaryTrainingWrapper):
            own = module.original_module
        else:
            continue
        parent, _, child = name.rpartition(".")
        setattr(model.get_submodule(parent), child, own)
    vars(model).pop("peft_config", None)


def linear_layers(model: torch.nn.Module) -> dict[str, torch.nn.Module]:
    """The layers that an adapter may sit on by its rank."""
    return {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Linear) or type(module).__name__ == "Conv1D"
    }


def _check_targets(model: torch.nn.Module, config: Any) -> None:
    targets = getattr(config, "target_modules", None)
    if targets is None or targets == "all-linear":
        return
    modules = [name for name, _ in model.named_modules()]
    if isinstance(targets, str):
        missing = [] if _matches(targets, modules) else [targets]
    else:
        missing = [t for t in sorted(targets) if not any(name == t or name.endswith(f".{t}") for name in modules)]
    if missing or not targets:
        endings = sorted({name.rsplit(".", 1)[-1] for name in linear_layers(model)})
        raise ModelError(
            f'adapter.target_modules: the model has no module "{missing[0]}"'
            if missing
            else "adapter.target_modules is empty",
            code="adapter.no-module",
            allowed=", ".join(endings) + ', or "all-linear"',
            remedy=(closest(missing[0], endings) if missing else None) or "name modules of this model",
        )


def _matches(pattern: str, names: Sequence[str]) -> bool:
    """Whether a text, which peft takes as a regular expression, names a module."""
    try:
        return any(re.fullmatch(pattern, name) for name in names)
    except re.error:
        return False


def _check_rank(model: torch.nn.Module, config: Any, merged: int) -> None:
    """Refuse a rank that no layer can hold, before peft allocates it; `_check_layers` sees to the single layers."""
    rank, linear = getattr(config, "r", None), linear_layers(model)
    if config.peft_type != peft.PeftType.LORA or not isinstance(rank, int) or not linear:
        return
    sizes = {name: _width(module) for name, module in linear.items()}
    name, largest = max(sizes.items(), key=lambda pair: pair[1])
    if not 1 <= rank - merged <= largest:
        raise _wrong_rank(rank - merged, name, largest)
    if merged > largest:
        raise ModelError(
            f"adapter.merged = {merged} does not fit: the largest layer, {name}, is only {largest} wide",
            code="adapter.merged",
            allowed=f"0 to {largest}",
            remedy="lower adapter.merged",
        )


def _width(module: Any) -> int:
    """The smaller side of a layer's matrix; one in 4 bits is packed, and only the layer still knows its shape."""
    if isinstance(module, torch.nn.Linear):
        return min(module.in_features, module.out_features)
    return int(min(module.get_parameter("weight").shape))


def _check_layers(adapter: FlatAdapter, merged: int) -> None:
    shapes = {tensor.name: tensor.shape for tensor in adapter.layout.tensors}
    for name, shape in shapes.items():
        if not name.endswith(".lora_A.weight"):
            continue
        layer = name.removesuffix(".lora_A.weight")
        below = shapes.get(f"{layer}.lora_B.weight", shape)
        size = min(math.prod(shape[1:]), below[0])
        if shape[0] - merged > size:
            raise _wrong_rank(shape[0] - merged, layer, size)


def _wrong_rank(rank: int, layer: str, size: int) -> ModelError:
    return ModelError(
        f"adapter.rank = {rank} does not fit: the layer {layer} is only {size} wide",
        code="adapter.rank",
        allowed=f"1 to {size}",
        remedy="lower adapter.rank or leave that layer out of adapter.target_modules",
    )


def _device(model: torch.nn.Module) -> torch.device:
    return next((parameter.device for parameter in model.parameters()), torch.device("cpu"))
