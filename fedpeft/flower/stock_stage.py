"""What a Flower strategy finds around it while it is called here: nodes to count, seeded chance, a quiet log."""

from __future__ import annotations

import gc
import logging
import random
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from flwr.app import Message, RecordDict
from flwr.serverapp import Grid

from fedpeft.errors import PluginError


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Python's and NumPy's global generators from a seed, and afterwards as they were."""
    python, numpy = random.getstate(), np.random.get_state()
    random.seed(seed)
    np.random.seed(seed % 2**32)
    try:
        yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)


@contextmanager
def swift_collections() -> Iterator[None]:
    """What is alive now is left out of garbage collections.

    Some of Flower's strategies ask for one with every reply, and with torch and transformers loaded each takes a tenth
    of a second or more.
    """
    ours = gc.get_freeze_count() == 0  # else somebody has frozen what is alive already
    if ours:
        gc.freeze()
    try:
        yield
    finally:
        if ours:
            gc.unfreeze()


@contextmanager
def quiet() -> Iterator[None]:
    """Flower's log from warnings upwards: it would tell of each round what the progress bar tells."""
    logger = logging.getLogger("flwr")
    level = logger.level
    logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        logger.setLevel(level)


class Present(Grid):
    """The nodes as a strategy sees them: those that replied, and as many more as it insists on. Sends nothing."""

    def __init__(self, nodes: list[int], least: int) -> None:
        self.nodes = nodes + list(range(1, 1 + max(0, least - len(nodes))))

    def get_node_ids(self) -> Iterable[int]:
        """See `flwr.serverapp.Grid`."""
        return list(self.nodes)

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Refused."""
        raise self._refused()

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """Refused."""
        raise self._refused()

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> Iterable[Message]:
        """Refused."""
        raise self._refused()

    def create_message(
        self, content: RecordDict, message_type: str, dst_node_id: int, group_id: str, ttl: float | None = None
    ) -> Message:
        """See `flwr.serverapp.Grid`."""
        return Message(content, dst_node_id=dst_node_id, message_type=message_type, ttl=ttl, group_id=group_id)

    def set_run(self, run: Any) -> None:
        """Refused."""
        raise self._refused()

    @property
    def run(self) -> Any:
        """Refused."""
        raise self._refused()

    @staticmethod
    def _refused() -> PluginError:
        return PluginError(
            "a Flower strategy talks to the nodes by itself; here the coordinator does",
            code="strategy.flower-grid",
            allowed="grid.get_node_ids()",
            remedy="leave sending and receiving to the coordinator",
        )
