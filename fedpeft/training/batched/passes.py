"""Who goes into the next pass: clients whose next batches have one shape, as many as tokens and memory allow.

Clients need not keep step with each other. Whichever batch shape most clients wait with goes next, those with the most
steps left first, so that nobody is left to train alone at the end.

Two limits, both measured: rows of the widest adapter input (beyond some thousand tokens a pass, activations leave the
cache of a CPU), and bytes that autograd keeps.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from fedpeft.training.batched.seat import Seat

FIRST = 2
"""Clients in the first pass of a batch shape, by which it is measured."""


TRANSIENT, TRANSIENT_BF16 = 1.5, 2.0
"""Peak memory of a pass over what autograd keeps, for gradients and results that come and go (measured on BERT; softmax
is in fp32 whatever the base is in)."""


@dataclass(slots=True)
class PassLimits:
    """How large passes may be.

    Args:
        rows: of the widest input of an adapter layer, e.g. tokens.
        memory: bytes for everything below.
        state: bytes of every client at work.
        row: bytes of a client's row in a pass, beside its activations.
        transient: peak memory of a pass over what it keeps.
    """

    rows: int
    memory: int
    state: int
    row: int
    transient: float = TRANSIENT
    _measured: dict[Hashable, tuple[float, float]] = field(default_factory=dict)  # batch shape -> rows, bytes a client

    def known(self, key: Hashable) -> bool:
        """Whether this batch shape has been measured."""
        return key in self._measured

    def measured(self, key: Hashable, clients: int, rows: int, held: int) -> None:
        """A pass of so many clients had so many rows and kept so many bytes."""
        self._measured[key] = (max(rows, 1) / clients, self.row + self.transient * held / clients)

    def allowed(self, key: Hashable, seated: int) -> int:
        """Clients that a pass of this batch shape may hold while so many are at work."""
        if key not in self._measured:
            return FIRST
        rows, held = self._measured[key]
        return max(1, min(int(self.rows / rows), int((self.memory - seated * self.state) / held)))


SeatType = TypeVar("SeatType", bound=Seat)


def next_pass(seats: Sequence[SeatType], limits: PassLimits) -> list[SeatType]:
    """The clients of the next pass, in the order of their jobs; empty when all are done."""
    waiting: dict[Hashable, list[SeatType]] = defaultdict(list)
    for seat in seats:
        if seat.batch is not None:
            waiting[seat.key].append(seat)
    if not waiting:
        return []
    group = max(waiting.values(), key=lambda group: min(len(group), limits.allowed(group[0].shape, len(seats))))
    allowed = limits.allowed(group[0].shape, len(seats))
    group.sort(key=lambda seat: (-seat.left, seat.order))
    passes = -(-len(group) // allowed)
    size = -(-len(group) // passes)  # passes of one size: memory is reused, and none is left small
    return sorted(group[:size], key=lambda seat: seat.order)
