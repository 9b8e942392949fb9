"""The coordinator over a Grid whose nodes are elsewhere, on the machine's clock."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fedpeft.flower import Grid, make_server_app, run_server_app
from fedpeft.journal import Event, EventKind, Journal
from fedpeft.simulation.federation import Federation
from fedpeft.simulation.wiring import FORWARD, make_coordinator
from fedpeft.types import ClientId, FloatArray, Transport

POLL_S = 0.1
"""Seconds between two looks of the coordinator."""


class WatchedClock:
    """The machine's monotonic clock. Who waits on it hears of nodes that are gone.

    Args:
        check: called while the coordinator waits; raises when there is nothing to wait for.
    """

    def __init__(self, check: Callable[[], None]) -> None:
        self.check = check

    def now(self) -> float:
        """Seconds since an arbitrary start."""
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        """Wait."""
        self.check()
        time.sleep(seconds)


def coordinate(
    federation: Federation,
    journal: Journal,
    grid: Grid,
    check: Callable[[], None],
    on_examples: Callable[[float], None],
) -> tuple[FloatArray, dict[str, Any]]:
    """Run the federation to its last round over a Grid; as `run_local`.

    Args:
        federation: ready to run.
        journal: open for writing.
        grid: of Flower; its nodes answer with the ClientApp.
        check: raises when the nodes are gone for good.
        on_examples: called with the work done, in examples, as replies tell of it.
    """
    reached: list[tuple[FloatArray, dict[str, Any]]] = []

    def main(transport: Transport, run: object) -> None:
        coordinator = make_coordinator(
            federation, transport, WatchedClock(check), journal, poll_s=POLL_S, on_examples=on_examples
        )
        theta = coordinator.run()
        reached.append((theta, coordinator.post.moved_since_last("hello", "train", "evaluate")))

    journal.subscribe(_work_of_replies(federation.config.local.batch_size, on_examples))
    run_server_app(make_server_app(main, count_wire=federation.config.engine.wire), grid, {})
    return reached[0]


def _work_of_replies(batch_size: int, on_examples: Callable[[float], None]) -> Callable[[Event], None]:
    """An observer: nodes elsewhere do not tell of their steps, so a reply counts for all of them."""
    steps: dict[ClientId, int] = {}

    def observe(event: Event) -> None:
        if event.client is None:
            return
        if event.kind == EventKind.ASKED:
            steps[event.client] = event.payload["steps"]
        elif event.kind in (EventKind.ACCEPTED, EventKind.REFUSED, EventKind.FAILED, EventKind.LATE):
            on_examples(float(steps.pop(event.client, 0) * batch_size))
        elif event.kind == EventKind.CLIENT_EVALUATED:
            on_examples(FORWARD * event.payload["examples"])

    return observe


@contextmanager
def flower_log(path: Path) -> Iterator[None]:
    """What Flower logs in this process goes to a file instead of the screen."""
    logger = logging.getLogger("flwr")
    handlers, propagates = list(logger.handlers), logger.propagate
    file = logging.FileHandler(path, encoding="utf-8")
    file.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    logger.handlers, logger.propagate = [file], False
    try:
        yield
    finally:
        logger.handlers, logger.propagate = handlers, propagates
        file.close()
