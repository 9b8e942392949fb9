"""What zeroth-order clients were sent of the model, by form: how often, to how many, in how many bytes.

Who was sent what stands in the journal: the `form` of each `asked` event (`fedpeft show RUN --events`).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

from fedpeft.journal import Event, EventKind
from fedpeft.report.units import bytes_text, count_text
from fedpeft.types import ClientId

FORM_HEAD = ("sent of the model", "times", "clients", "bytes", "on average", "largest")

NAMES = {
    "changes": "coefficients that changed",
    "everything": "all coefficients",
    "checkpoint": "a checkpoint",
}
"""By the `form` of an event."""


@dataclass(frozen=True, slots=True)
class FormCount:
    """One form. Counts are over the committed part of the run; bytes are of whole frames, plans included."""

    form: str
    times: int
    clients: int
    bytes: int
    largest: int

    def cells(self) -> list[str]:
        """As texts, in the order of `FORM_HEAD`."""
        return [
            NAMES.get(self.form, self.form),
            count_text(self.times),
            count_text(self.clients),
            bytes_text(self.bytes),
            bytes_text(self.bytes / self.times),
            bytes_text(self.largest),
        ]


def form_counts(events: Iterable[Event]) -> tuple[FormCount, ...]:
    """The forms of a run, in the order of `NAMES`; none where no event tells one.

    Args:
        events: of the run, in order; what was asked after the last commit is left out.
    """
    counted: dict[str, list[tuple[ClientId, int]]] = defaultdict(list)
    open_: list[tuple[str, ClientId, int]] = []
    for event in events:
        if event.kind == EventKind.RUN_STARTED:
            open_ = []
        elif event.kind == EventKind.ASKED and event.client is not None and "form" in event.payload:
            open_.append((str(event.payload["form"]), event.client, int(event.payload["bytes"])))
        elif event.kind == EventKind.COMMITTED:
            for form, client, size in open_:
                counted[form].append((client, size))
            open_ = []
    return tuple(
        FormCount(
            form,
            times=len(own),
            clients=len({client for client, _ in own}),
            bytes=sum(size for _, size in own),
            largest=max(size for _, size in own),
        )
        for form in (*NAMES, *sorted(counted.keys() - NAMES.keys()))
        if (own := counted.get(form))
    )
