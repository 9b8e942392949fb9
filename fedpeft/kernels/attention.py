"""Attention of short texts in bf16 on a CPU: plain batched products, where torch's own routine is slow.

Torch's fused attention takes several times as long backward in bf16 as in fp32 on CPUs; and materialised probabilities
cost little where texts are short. Scores and probabilities are kept in bf16; torch's softmax computes in fp32 whatever
it is given. Registered with `transformers`, so any of its models can use it.
"""

from __future__ import annotations

from typing import Any

import torch

NAME = "fedpeft_short"


class _ShortAttention(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, mask: torch.Tensor | None, scaling: float
    ) -> torch.Tensor:
        heads = q.shape[:2]
        q, k, v = (tensor.reshape(-1, *tensor.shape[2:]) for tensor in (q, k, v))  # (B·H, T, D)
        scores = _product(q, k.transpose(1, 2), scaling)
        if mask is not None:
            scores.view(*heads, *scores.shape[1:]).add_(mask)
        p = torch.softmax(scores, -1)
        ctx.save_for_backward(q, k, v, p)
        ctx.scaling = scaling
        return torch.bmm(p, v).view(*heads, q.shape[1], v.shape[2])

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        q, k, v, p = ctx.saved_tensors
        shape = gradients[0].shape
        above = gradients[0].reshape(-1, *shape[2:])
        for_v = torch.bmm(p.transpose(1, 2), above)
        for_p = torch.bmm(above, v.transpose(1, 2))
        for_scores = torch.ops.aten._softmax_backward_data(for_p, p, -1, p.dtype)
        for_q = _product(for_scores, k, ctx.scaling)
        for_k = _product(for_scores.transpose(1, 2), q, ctx.scaling)
        heads = shape[:2]
        return (
            for_q.view(*heads, *for_q.shape[1:]),
            for_k.view(*heads, *for_k.shape[1:]),
            for_v.view(*heads, *for_v.shape[1:]),
            None,
            None,
        )


CHANGES_SCORES = ("softcap", "s_aux", "position_bias")
"""Arguments by which some architectures have other scores than q kᵀ: Gemma 2's cap, gpt-oss's sinks, T5's biases."""


def _product(left: torch.Tensor, right: torch.Tensor, factor: float) -> torch.Tensor:
    """factor · left right, batch by batch; the factor is applied before the one rounding to the tensors' dtype."""
    result = left.new_empty((len(left), left.shape[1], right.shape[2]))
    return torch.baddbmm(result, left, right, beta=0, alpha=factor, out=result)


def short_attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    **more: Any,
) -> tuple[torch.Tensor, None]:
    """An attention function as `transformers` calls it.

    Args:
        module: may name `num_key_value_groups`, queries per key head.
        query: (B, H, T, D).
        key: (B, H / groups, S, D).
        value: as key.
        attention_mask: additive, broadcastable to (B, 1, T, S); None: everybody sees everybody.
        scaling: default 1/√D.
        dropout: of probabilities; only 0 is supported (the base is in eval mode).
        more: what `transformers` tells beside it, e.g. of the cache.

    Returns:
        (B, T, H, D), and None for the weights.

    Raises:
        ValueError: dropout is asked for, or something that changes the scores.
    """
    if odd := [key for key in CHANGES_SCORES if more.get(key) is not None]:
        raise ValueError(f"short attention has no {odd[0]}: this architecture needs attn_implementation = 'eager'")
    if dropout:
        raise ValueError("short attention has no dropout: keep the base in eval mode")
    groups = getattr(module, "num_key_value_groups", 1)
    if groups > 1:
        key, value = key.repeat_interleave(groups, 1), value.repeat_interleave(groups, 1)
    if attention_mask is not None:
        attention_mask = attention_mask[..., : key.shape[-2]]
    scaling = query.shape[-1] ** -0.5 if scaling is None else scaling
    y: torch.Tensor = _ShortAttention.apply(query, key, value, attention_mask, scaling)  # type: ignore[no-untyped-call]
    return y.transpose(1, 2).contiguous(), None


def settle(model: Any) -> None:
    """Let a model that was loaded with this attention have its own where it is more than softmax(q kᵀ) v.

    Such architectures say so: they do not go with torch's `scaled_dot_product_attention` either.

    Args:
        model: of `transformers`.
    """
    if not getattr(type(model), "_supports_sdpa", False) and getattr(model.config, "_attn_implementation", "") == NAME:
        model.set_attn_implementation("eager")


def register() -> str:
    """Make it known to `transformers`; returns the name to pass as `attn_implementation`."""
    from transformers import AttentionInterface
    from transformers.masking_utils import AttentionMaskInterface, eager_mask

    AttentionInterface.register(NAME, short_attention)
    AttentionMaskInterface.register(NAME, eager_mask)
    return NAME
