"""A causal language model's loss without all its logits: the hidden states before the output layer, and that layer.

The model's own forward pass runs, whatever peft has put on it, with an output layer that hands its input on; the layer
itself then multiplies a few hundred tokens at a time, and only those that carry a loss. A model for which that is not
the same (it scales or caps its logits after the layer, or trains the layer) has its logits as a whole. Which it is, and
whether the model is causal at all, is tried once on a handful of tokens.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F

from fedpeft.errors import ModelError
from fedpeft.kernels import held_product
from fedpeft.training.losses import IGNORED, token_losses

TRIAL = 6
"""Tokens of the trial."""


class OutputLayer:
    """How the losses of a causal language model are had.

    Args:
        model: with or without peft's wrapper; called with input_ids and attention_mask it returns `logits`.

    Raises:
        ModelError: it has no output layer, or a token sees those after it.
    """

    def __init__(self, model: Any) -> None:
        self.model = model
        base: Any = self.model.get_base_model() if hasattr(self.model, "get_base_model") else model
        head = base.get_output_embeddings()
        if head is None:
            raise ModelError(
                f"the model is a {type(base).__name__}, which has no output layer over tokens",
                code="model.no-output-layer",
                allowed="a causal language model",
                remedy="name a decoder, e.g. of the Llama, Qwen or GPT-2 family",
            )
        self.head: torch.nn.Module = head
        self.whole = held_product(head) is None  # trained, or not a plain matrix
        self._try()

    def losses(self, inputs: dict[str, torch.Tensor], labels: torch.Tensor) -> torch.Tensor:
        """The mean cross-entropy over each example's learnt tokens, shape (n,), fp32.

        Args:
            inputs: input_ids and attention_mask, shape (n, T), padded on the right.
            labels: the token itself where it is learnt, else `IGNORED`, shape (n, T).
        """
        wanted = labels[:, 1:]
        if not self.whole:
            return token_losses(self._hidden(inputs)[:, :-1], self.head, wanted)
        logits = self._logits(inputs)[:, :-1].float()
        each = F.cross_entropy(logits.transpose(1, 2), wanted, reduction="none", ignore_index=IGNORED)  # (n, T - 1)
        return each.sum(1) / (wanted != IGNORED).sum(1).clamp(min=1)

    def _hidden(self, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
        """What the output layer is applied to, shape (n, T, h)."""
        with _handing_on(self.head):
            return self._logits(inputs)

    def _logits(self, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
        """(n, T, vocabulary); learnt prompts, which come before the tokens, are left out."""
        logits: torch.Tensor = self.model(**inputs, use_cache=False).logits
        return logits[:, -inputs["input_ids"].shape[1] :]

    @torch.no_grad()
    def _try(self) -> None:
        weight = next(self.head.parameters())
        ids = torch.arange(TRIAL, device=weight.device).unsqueeze(0) % weight.shape[0]
        other = ids.clone()
        other[0, -1] = 0
        mask = torch.ones_like(ids)
        logits = self._logits({"input_ids": ids, "attention_mask": mask})
        changed = self._logits({"input_ids": other, "attention_mask": mask})
        if _apart(logits[:, :-1], changed[:, :-1]):
            raise ModelError(
                f"the model is a {type(self.model).__name__} in which a token sees those after it: it is not causal",
                code="model.not-causal",
                allowed="a causal language model, e.g. of the Llama, Qwen or GPT-2 family",
                remedy="name another model.source; for an encoder, model.task = label-names or linear-head",
            )
        if not self.whole:
            hidden = self._hidden({"input_ids": ids, "attention_mask": mask})
            self.whole = hidden.shape[-1] != weight.shape[1] or _apart(self.head(hidden), logits)


def _apart(one: torch.Tensor, other: torch.Tensor) -> bool:
    """Whether two results differ by more than rounding."""
    bound = 2e-2 if one.dtype in (torch.bfloat16, torch.float16) else 1e-4
    return bool((one.float() - other.float()).norm() > bound * one.float().norm())


@contextlib.contextmanager
def _handing_on(head: torch.nn.Module) -> Iterator[None]:
    """In here the layer returns its input; then it has its own forward pass again, a kernel's or its class's."""
    own = vars(head).get("forward")
    vars(head)["forward"] = lambda hidden: hidden
    try:
        yield
    finally:
        if own is None:
            vars(head).pop("forward", None)
        else:
            vars(head)["forward"] = own
