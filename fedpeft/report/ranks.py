"""Whose rank fell, and to what, by device class: of runs whose rule lowers its clients' ranks.

The round in which a client's fell is in the journal: `ranks` of each `committed` event (`fedpeft show RUN --events
--format json`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from fedpeft.journal import Event, EventKind
from fedpeft.report.units import count_text
from fedpeft.types import ClientId

RANKS_HEAD = ("devices", "clients", "rank fell", "lowest", "mean", "highest")
"""`rank fell`: of so many clients; then the ranks that these have now."""


@dataclass(frozen=True, slots=True)
class RankCount:
    """One class of devices."""

    device: str
    clients: int
    fell: int  # clients whose rank ever fell
    lowest: int  # rank that one of these has now
    mean: float
    highest: int

    def cells(self) -> list[str]:
        """As texts, in the order of `RANKS_HEAD`."""
        ranks = [str(self.lowest), f"{self.mean:.1f}", str(self.highest)]
        return [self.device, count_text(self.clients), count_text(self.fell), *ranks]


def rank_counts(events: Iterable[Event]) -> tuple[RankCount, ...]:
    """The classes in which a rank fell, in the order in which they were met.

    Args:
        events: of the run, in order.
    """
    devices: dict[ClientId, str] = {}
    now: dict[ClientId, int] = {}
    for event in events:
        if event.kind is EventKind.HELLO and event.client is not None:
            devices[event.client] = str(event.payload["device"])
        elif event.kind is EventKind.COMMITTED:
            now |= event.payload.get("ranks", {})
    if not now:
        return ()
    clients = Counter(devices.values())
    ranks: dict[str, list[int]] = {name: [] for name in clients}
    for client, rank in now.items():
        ranks[devices[client]].append(rank)
    return tuple(
        RankCount(name, clients[name], len(own), min(own), sum(own) / len(own), max(own))
        for name, own in ranks.items()
        if own
    )
