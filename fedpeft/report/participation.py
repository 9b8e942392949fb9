"""Whose updates are in the adapter: by device class, how often it was asked, folded and late.

Means over clients hide that a class of devices is never heard. Here a class that was asked and not folded shows.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from fedpeft.journal import Event, EventKind
from fedpeft.report.units import MISSING, count_text, percent_text
from fedpeft.types import ClientId

HEAD = ("devices", "clients", "heard", "asked", "folded", "of all", "staleness", "longest")
"""`heard`: clients with at least one update in the adapter; `of all`: share of the updates; ages in commits."""


@dataclass(frozen=True, slots=True)
class Participation:
    """One class of devices. Counts are over the committed part of the run."""

    device: str
    clients: int
    heard: int  # clients of which at least one update was folded
    asked: int
    folded: int
    share: float  # of all folded updates, from 0 to 1
    mean_age: float | None  # commits between asking and folding; None: nothing was folded
    max_age: int | None

    def cells(self) -> list[str]:
        """As texts, in the order of `HEAD`."""
        return [
            self.device,
            count_text(self.clients),
            count_text(self.heard),
            count_text(self.asked),
            count_text(self.folded),
            percent_text(self.share),
            MISSING if self.mean_age is None else f"{self.mean_age:.2f}",
            MISSING if self.max_age is None else str(self.max_age),
        ]


def participation(events: Iterable[Event]) -> tuple[Participation, ...]:
    """The classes of a run, in the order in which they were met.

    Args:
        events: of the run, in order. What was folded in an attempt that was not committed is in no adapter and left
            out, as is what was asked after the last commit.
    """
    devices: dict[ClientId, str] = {}
    asked: Counter[ClientId] = Counter()
    ages: dict[ClientId, list[int]] = defaultdict(list)
    asked_open: list[ClientId] = []
    folded_open: list[tuple[ClientId, int]] = []
    for event in events:
        match event.kind:
            case EventKind.RUN_STARTED:
                asked_open, folded_open = [], []
            case EventKind.ROUND_SHORT:
                folded_open = []
            case EventKind.HELLO if event.client is not None:
                devices[event.client] = str(event.payload["device"])
            case EventKind.ASKED if event.client is not None:
                asked_open.append(event.client)
            case EventKind.ACCEPTED if event.client is not None:
                folded_open.append((event.client, event.round or 0))
            case EventKind.COMMITTED:
                asked.update(asked_open)
                for client, number in folded_open:
                    ages[client].append((event.round or 0) - number)
                asked_open, folded_open = [], []
    total = sum(map(len, ages.values()))
    return tuple(
        _of_class(device, [client for client, own in devices.items() if own == device], asked, ages, total)
        for device in dict.fromkeys(devices.values())
    )


def _of_class(
    device: str, clients: Sequence[ClientId], asked: Counter[ClientId], ages: dict[ClientId, list[int]], total: int
) -> Participation:
    own = [age for client in clients for age in ages.get(client, ())]
    return Participation(
        device=device,
        clients=len(clients),
        heard=sum(bool(ages.get(client)) for client in clients),
        asked=sum(asked[client] for client in clients),
        folded=len(own),
        share=len(own) / total if total else 0.0,
        mean_age=sum(own) / len(own) if own else None,
        max_age=max(own, default=None),
    )
