"""Losses for models whose output layer is large: never all logits at once.

A language model's logits, (tokens, vocabulary), are often its largest tensor by far. Where the output layer is frozen
its gradient with respect to the hidden states can be made right beside the loss, a few hundred tokens at a time, and
nothing of the size of the vocabulary is kept.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch.autograd import forward_ad

from fedpeft.kernels import FrozenProduct, held_product

CHUNK = 256
"""Tokens whose logits exist at a time."""

IGNORED = -100
"""The label of a token that carries no loss, as `transformers` has it."""


class _ChunkedCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, hidden: torch.Tensor, product: FrozenProduct, labels: torch.Tensor) -> torch.Tensor:
        wanted = hidden.requires_grad
        losses = torch.empty(len(hidden), dtype=torch.float32, device=hidden.device)
        inner = torch.empty_like(hidden) if wanted else None
        for begin in range(0, len(hidden), CHUNK):
            part = slice(begin, begin + CHUNK)
            logits = product.forward(hidden[part]).float()
            total = torch.logsumexp(logits, 1)
            right = labels[part].unsqueeze(1)
            losses[part] = total - logits.gather(1, right).squeeze(1)
            if inner is not None:  # softmax minus one-hot, in the memory of the logits
                logits.sub_(total.unsqueeze(1)).exp_()
                logits.scatter_add_(1, right, torch.full_like(total, -1.0).unsqueeze(1))
                inner[part] = product.backward(logits.to(hidden.dtype))
        if inner is not None:
            ctx.save_for_backward(inner)
        return losses

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        (inner,) = ctx.saved_tensors
        return inner * gradients[0].unsqueeze(1).to(inner.dtype), None, None


def _in_forward_mode(values: torch.Tensor) -> bool:
    """Whether values carry a tangent of forward-mode differentiation."""
    return forward_ad.unpack_dual(values).tangent is not None  # type: ignore[no-untyped-call]


def token_losses(hidden: torch.Tensor, head: torch.nn.Module, labels: torch.Tensor) -> torch.Tensor:
    """The mean cross-entropy over an example's tokens, shape (n,), fp32.

    Args:
        hidden: what `head` is applied to, shape (n, T, h).
        head: a linear output layer, e.g. `model.get_output_embeddings()`. A frozen one is never held as a whole.
        labels: token ids, shape (n, T); `IGNORED` carries no loss. For a causal model they are shifted already.
    """
    counted = labels != IGNORED
    rows, wanted = hidden[counted], labels[counted]
    product = held_product(head)
    if product is None:
        taken = F.cross_entropy(head(rows).float(), wanted, reduction="none")
    elif _in_forward_mode(rows):  # which keeps nothing of a part that is done
        parts = [slice(begin, begin + CHUNK) for begin in range(0, len(rows), CHUNK)]
        taken = torch.cat([F.cross_entropy(head(rows[own]).float(), wanted[own], reduction="none") for own in parts])
    else:
        taken = _ChunkedCrossEntropy.apply(rows, product, wanted)  # type: ignore[no-untyped-call]
    losses = torch.zeros(labels.shape, dtype=torch.float32, device=hidden.device)
    losses = losses.masked_scatter(counted, taken)
    return losses.sum(1) / counted.sum(1).clamp(min=1)
