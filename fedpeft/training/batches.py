"""Batches of several clients as one: any tree of tensors, with examples along the first axis.

A batch may be a tensor, a mapping, a list, a tuple, a data class, or None, nested in any way. Whatever is no tensor
must be the same in all batches that are joined, but for `Count`.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import fields, is_dataclass, replace
from typing import Any

import torch


class Count(int):
    """A number of examples in a batch: adds up when batches are joined."""


def signature(batch: Any) -> Hashable:
    """What two batches must share for `join` to take them together: the shape of everything in them.

    Of an attention mask it also counts whether it hides anything: models choose another routine where it does not.
    """
    if isinstance(batch, torch.Tensor):
        return (tuple(batch.shape), batch.dtype)
    if isinstance(batch, Count):
        return int(batch)
    if isinstance(batch, Mapping):
        whole = tuple(bool(mask.all()) for key, mask in batch.items() if key == "attention_mask")
        return (tuple((key, signature(part)) for key, part in batch.items()), whole)
    if is_dataclass(batch):
        return (type(batch), tuple(signature(getattr(batch, field.name)) for field in fields(batch)))
    if isinstance(batch, Sequence) and not isinstance(batch, str):
        return (type(batch), tuple(signature(part) for part in batch))
    if isinstance(batch, Hashable):
        return batch
    raise TypeError(f"a batch holds a {type(batch).__name__}, which cannot be joined with another client's")


def join(batches: Sequence[Any]) -> Any:
    """One batch of all the examples, in order.

    Args:
        batches: with equal `signature`, at least one.

    Raises:
        TypeError: a part of them cannot be joined.
    """
    first = batches[0]
    if len(batches) == 1:
        return first
    if isinstance(first, torch.Tensor):
        if first.ndim == 0:
            raise TypeError("a batch holds a tensor without an axis of examples")
        return torch.cat(list(batches))
    if isinstance(first, Count):
        return Count(sum(batches))
    if isinstance(first, Mapping):
        joined = {key: join([batch[key] for batch in batches]) for key in first}
        return joined if type(first) is dict else type(first)(joined)  # type: ignore[call-arg]
    if is_dataclass(first) and not isinstance(first, type):
        parts = {field.name: join([getattr(batch, field.name) for batch in batches]) for field in fields(first)}
        return replace(first, **parts)
    if isinstance(first, tuple | list):
        columns = [join(column) for column in zip(*batches, strict=True)]
        if isinstance(first, tuple) and hasattr(first, "_fields"):
            return type(first)(*columns)
        return type(first)(columns)
    return first
