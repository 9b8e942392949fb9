"""Which memory a tensor takes, so that what many tensors share is counted once."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch


def storages(tensor: Any) -> Iterator[tuple[int, int]]:
    """Address and bytes of each piece of memory behind a tensor: one, but for tensors that are made of others.

    Quantised ones are: of codes and scales. They have no memory of their own.
    """
    if type(tensor) not in (torch.Tensor, torch.nn.Parameter) and hasattr(tensor, "__tensor_flatten__"):
        names, _ = tensor.__tensor_flatten__()
        for name in names:
            yield from storages(getattr(tensor, name))
    else:
        storage = tensor.untyped_storage()
        yield storage.data_ptr(), storage.nbytes()
