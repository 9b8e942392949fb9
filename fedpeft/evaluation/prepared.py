"""What a task prepares from a model, kept while the model stays as it is.

Many clients evaluate one broadcast, each on its own examples; `Task.prepare`, e.g. the embeddings of some hundred label
names, would cost more than a small client's own examples.
"""

from __future__ import annotations

import hashlib
from typing import Any

import torch

from fedpeft.adapters import FlatAdapter
from fedpeft.training import Task


class PreparedOnce:
    """`Task.prepare` of the θ that an adapter held when it was asked last.

    Args:
        adapter: the model and θ.
        task: what prepares.
    """

    def __init__(self, adapter: FlatAdapter, task: Task) -> None:
        self._adapter = adapter
        self._task = task
        self._of: bytes = b""  # the digest of θ: a copy would cost its memory
        self._prepared: Any = None

    def get(self) -> Any:
        """What the task prepares from the θ that the adapter holds now."""
        digest = hashlib.blake2b(self._adapter.get().data, digest_size=16).digest()
        if digest != self._of:
            with torch.no_grad():
                self._prepared = self._task.prepare(self._adapter.model)
            self._of = digest
        return self._prepared
