"""Prompt learning: trained vectors in front of the text (prompt tuning, P-tuning) or of every layer's keys (prefixes).

    prompt tuning (Lester et al. 2021, arXiv 2104.08691)     V vectors of the embedding's width before the tokens
    P-tuning      (Liu et al. 2021, arXiv 2103.10385)        the same, made by a small trained network
    prefix tuning (Li and Liang 2021, arXiv 2101.00190)      V keys and values before those of every layer

Peft does it around the model, by the task that the model is for. Unlike LoRA, none of them starts from the base itself.
"""

from __future__ import annotations

from typing import Any

import peft
import torch
from peft import PeftType, TaskType

from fedpeft.errors import ModelError


def prepare_prompts(model: torch.nn.Module, config: Any) -> None:
    """Give `config` the task that `model` is for, in place.

    Raises:
        ModelError: the model reads no tokens, or would look for a text's end in the wrong place.
    """
    name = str(config.peft_type.value).lower()
    if not _reads_tokens(model):
        raise ModelError(
            f"adapter: {name} puts vectors in front of a text's tokens, and {type(model).__name__} reads none",
            code="adapter.no-tokens",
            allowed="a language model of transformers",
            remedy="choose an adapter on layers of the model, e.g. lora",
        )
    if not config.num_virtual_tokens:
        raise ModelError(
            f"adapter.num_virtual_tokens is missing: {name} has to know how many vectors to train",
            code="adapter.no-prompts",
            allowed="a whole number > 0, e.g. 8",
            remedy="add adapter.num_virtual_tokens",
        )
    if config.task_type is None:
        config.task_type = task_of(model) or TaskType.FEATURE_EXTRACTION
    embeds = config.peft_type != PeftType.PREFIX_TUNING
    if embeds and config.task_type == TaskType.SEQ_CLS and hasattr(model, "score"):
        raise ModelError(
            f"adapter: {name} hands {type(model).__name__} vectors instead of tokens, and it then takes a text's "
            "padding for its last word",
            code="adapter.padding",
            allowed="prefix_tuning, or an adapter on layers",
            remedy='set adapter.type = "prefix_tuning"',
        )


def virtual_tokens(model: Any) -> int:
    """Positions that a prompt in front of a text takes; 0 of a model without one."""
    config: Any = getattr(model, "active_peft_config", None)
    return int(config.num_virtual_tokens or 0) if getattr(config, "is_prompt_learning", False) else 0


def task_of(model: torch.nn.Module) -> Any:
    """What peft calls the task that a model of `transformers` is made for; None for a bare one."""
    name = type(model).__name__
    if name.endswith("ForSequenceClassification"):
        return TaskType.SEQ_CLS
    return TaskType.CAUSAL_LM if name.endswith(("ForCausalLM", "LMHeadModel")) else None


def leave_out_prompts(model: Any) -> None:
    """Let a bare encoder give one hidden state a token, as without prompts: nobody asked for those of the prompts."""
    config = model.active_peft_config
    if config.task_type != TaskType.FEATURE_EXTRACTION or config.peft_type == PeftType.PREFIX_TUNING:
        return
    count = config.num_virtual_tokens

    def cut(module: peft.PeftModel, inputs: Any, output: Any) -> Any:
        output.last_hidden_state = output.last_hidden_state[:, count:]
        return output

    model.register_forward_hook(cut)


def _reads_tokens(model: torch.nn.Module) -> bool:
    config = getattr(model, "config", None)
    return config is not None and getattr(config.get_text_config(), "vocab_size", None) is not None
