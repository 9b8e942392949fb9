"""Answers by greedy decoding: always the likeliest next token, so that an evaluation can be repeated."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

Tokens = npt.NDArray[np.int64]


def greedy_answers(
    model: Any, prompts: Sequence[Tokens], *, new_tokens: int, ends: Sequence[int], padding: int
) -> list[Tokens]:
    """What the model writes after each prompt, without the token that ends it.

    Args:
        model: a causal language model of `transformers`, with or without peft's wrapper.
        prompts: token ids, each at least one.
        new_tokens: an answer has at most so many.
        ends: token ids that end an answer.
        padding: the id that fills rows up.
    """
    answers: dict[int, Tokens] = {}
    with torch.no_grad(), _plainly(model, new_tokens, ends, padding) as settings:
        for places in _groups(model, prompts):
            ids, mask = _left_padded([prompts[place] for place in places], padding)
            device = next(model.parameters()).device
            written = model.generate(
                input_ids=ids.to(device), attention_mask=mask.to(device), generation_config=settings
            ).cpu()
            answers |= {
                place: _until(row[ids.shape[1] :].numpy(), ends) for place, row in zip(places, written, strict=True)
            }
    return [answers[place] for place in range(len(prompts))]


def _groups(model: Any, prompts: Sequence[Tokens]) -> list[list[int]]:
    """Places of prompts that are answered together: all; or, behind a learnt prompt, those of one length.

    What peft puts before the tokens comes before their padding too, and the places of the tokens are then counted
    from there: a prompt would not be where it is in training.
    """
    if not getattr(getattr(model, "active_peft_config", None), "is_prompt_learning", False):
        return [list(range(len(prompts)))]
    groups: dict[int, list[int]] = {}
    for place, prompt in enumerate(prompts):
        groups.setdefault(len(prompt), []).append(place)
    return list(groups.values())


def _left_padded(prompts: Sequence[Tokens], padding: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Token ids and mask, each int64 of shape (n, T): all rows end, and go on, at the same place."""
    width = max(map(len, prompts))
    ids = torch.full((len(prompts), width), padding, dtype=torch.int64)
    mask = torch.zeros_like(ids)
    for row, prompt in enumerate(prompts):
        ids[row, width - len(prompt) :] = torch.from_numpy(prompt)
        mask[row, width - len(prompt) :] = 1
    return ids, mask


def _until(row: Tokens, ends: Sequence[int]) -> Tokens:
    places = np.flatnonzero(np.isin(row, ends))
    return row[: places[0]] if len(places) else row


@contextlib.contextmanager
def _plainly(model: Any, new_tokens: int, ends: Sequence[int], padding: int) -> Iterator[Any]:
    """Settings of greedy decoding; what the model's own (a temperature, a penalty) would add to them is put aside."""
    from transformers import GenerationConfig

    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    own = base.generation_config
    base.generation_config = GenerationConfig()
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Position ids are not supported")  # and not needed: see `_groups`
            yield GenerationConfig(
                max_new_tokens=new_tokens, do_sample=False, num_beams=1, eos_token_id=list(ends), pad_token_id=padding
            )
    finally:
        base.generation_config = own
