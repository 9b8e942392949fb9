"""What a run's evaluations say, read from its journal: on the test set round by round, and spread over the clients."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Literal, TypeAlias

from fedpeft.journal import Event, EventKind, Spread
from fedpeft.types import ClientId

Stage: TypeAlias = Literal["before", "after", "tuned"]
"""Of the clients' evaluations: of the untrained adapter, of the last one, and after each client's own steps."""


def whole_evaluations(events: Iterable[Event], split: str) -> list[Event]:
    """Evaluations of one split in the order of rounds, the last one of each; of the whole test set before a sample."""
    found: dict[int | None, Event] = {}
    for event in events:
        if event.kind is EventKind.EVALUATED and event.payload["split"] == split:
            known = found.get(event.round)
            if known is None or event.payload.get("whole", True) >= known.payload.get("whole", True):
                found[event.round] = event
    return [found[number] for number in sorted(found, key=lambda number: -1 if number is None else number)]


def client_measurements(events: Iterable[Event]) -> dict[Stage, dict[ClientId, Mapping[str, Any]]]:
    """Stage -> client -> payload of its evaluation; `after` is the last one that there is."""
    stages: dict[Stage, dict[ClientId, Mapping[str, Any]]] = {"before": {}, "after": {}, "tuned": {}}
    for event in events:
        if event.client is None:
            continue
        if event.kind is EventKind.CLIENT_TUNED:
            stages["tuned"][event.client] = event.payload
        elif event.kind is EventKind.CLIENT_EVALUATED:
            stages["after" if event.round else "before"][event.client] = event.payload
    return stages


def spreads_by_round(events: Iterable[Event], name: str) -> dict[int, Spread]:
    """Round -> spread of a metric over the clients that evaluated the adapter of that round."""
    return {
        event.round: Spread.from_payload(event.payload["clients"][name])
        for event in events
        if event.kind is EventKind.CLIENTS_EVALUATED
        and event.round is not None
        and name in event.payload.get("clients", {})
    }
