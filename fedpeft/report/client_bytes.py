"""Which client moved which bytes: a row a client, and of many clients those that sent most and least.

A mean of a class hides the one client that sends ten times as much as the others, by its codec, rank or number of
rounds. Of training alone, in frames, as the rows of classes are: the same bytes, sorted by whose they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from fedpeft.report.units import MISSING, bytes_text, count_text
from fedpeft.types import ClientId

CLIENT_HEAD = ("client", "devices", "asked", "up", "each", "down", "each")


@dataclass(slots=True)
class ClientBytes:
    """Training of one client, in the committed part of the run."""

    client: ClientId
    device: str
    asked: int = 0
    replies: int = 0  # folded, refused or too late: all that brought bytes
    up: int = 0
    down: int = 0
    up_by_codec: dict[str, int] = field(default_factory=dict)

    def cells(self) -> list[str]:
        """As texts, in the order of `CLIENT_HEAD`; `each` is a mean."""
        each_up = bytes_text(self.up / self.replies) if self.replies else MISSING
        each_down = bytes_text(self.down / self.asked) if self.asked else MISSING
        up, down = bytes_text(self.up), bytes_text(self.down)
        return [self.client, self.device, count_text(self.asked), up, each_up, down, each_down]


def extremes(clients: Sequence[ClientBytes], each: int) -> tuple[list[ClientBytes], str]:
    """The clients to show, those that sent most first, and what to say of the others.

    Args:
        clients: all of a run.
        each: how many of those that sent most, and of those that sent least, where there are more than both.
    """
    moved = [one for one in clients if one.asked or one.replies]
    ordered = sorted(moved, key=lambda one: (-one.up, one.client))
    shown, left_out = ordered, len(ordered) - 2 * each
    said = "Training of each client, in frames; those that sent most first."
    if left_out > 0:
        shown = ordered[:each] + ordered[-each:]
        said = (
            f"Training by client, in frames: the {each} that sent most and the {each} that sent least. Left out: "
            f"{count_text(left_out)} between them, in fedpeft show RUN --format json."
        )
    idle = len(clients) - len(moved)
    return shown, said + (f" Never asked: {count_text(idle)}." if idle else "")


__all__ = ["CLIENT_HEAD", "ClientBytes", "extremes"]
