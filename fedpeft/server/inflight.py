"""What is out: one entry for each message that has not been answered."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass

from fedpeft.types import ClientId, Incoming, MessageId, MessageKind, Plan


@dataclass(frozen=True, slots=True)
class Asked:
    """A message that awaits its reply."""

    client: ClientId
    kind: MessageKind
    round: int
    attempt: int
    sent_at: float  # seconds, the coordinator's clock
    plan: Plan | None = None  # what a client was told to train
    past: int = 0  # epochs for whose coefficients it then holds a checkpoint


class InFlight:
    """Messages by id. A client with a message out is busy and is not asked again."""

    def __init__(self) -> None:
        self._asked: dict[MessageId, Asked] = {}
        self._given_up: dict[ClientId, int] = {}  # how often in a row
        self._kept: deque[Incoming] = deque()  # replies that are here and have not been dealt with yet

    def add(self, message: MessageId, asked: Asked) -> None:
        """Note a message that was sent."""
        self._asked[message] = asked

    def pop(self, message: MessageId) -> Asked | None:
        """Take out the entry of a message that was answered; None for one that is unknown or already answered."""
        asked = self._asked.pop(message, None)
        if asked is not None:
            self._given_up.pop(asked.client, None)
        return asked

    def messages(self) -> list[MessageId]:
        """Ids of everything that is out: what has not been answered."""
        here = {reply.message for reply in self._kept}
        return [message for message in self._asked if message not in here]

    def keep(self, replies: Iterable[Incoming]) -> None:
        """Keep replies until they are dealt with; a transport delivers each only once."""
        self._kept.extend(replies)

    def next_kept(self) -> Incoming | None:
        """Take out the reply that has been kept longest; None when there is none."""
        return self._kept.popleft() if self._kept else None

    def out(self) -> list[Asked]:
        """All that awaits its reply, and replies that are here and have not been dealt with."""
        return list(self._asked.values())

    def busy(self) -> set[ClientId]:
        """Clients with a message out."""
        return {asked.client for asked in self._asked.values()}

    def versions(self) -> set[int]:
        """Versions that were sent to those who are out: they will hold them. A round starts from the one before it."""
        return {asked.round - 1 for asked in self._asked.values()}

    def asked_since(self, moment: float) -> int:
        """How many messages are out that were sent at `moment` or later, on the coordinator's clock."""
        return sum(asked.sent_at >= moment for asked in self._asked.values())

    def overdue(self, moment: float) -> set[ClientId]:
        """Clients whose message was sent before `moment` and is still out."""
        return {asked.client for asked in self._asked.values() if asked.sent_at < moment}

    def waits_for(self, round_number: int, attempt: int) -> bool:
        """Whether anything is out for one attempt of one round."""
        return any((a.round, a.attempt) == (round_number, attempt) for a in self._asked.values())

    def of_round(self, round_number: int, attempt: int) -> list[Asked]:
        """What is out for one attempt of one round."""
        return [a for a in self._asked.values() if (a.round, a.attempt) == (round_number, attempt)]

    def give_up(self, now: float, patience: float) -> list[Asked]:
        """Remove and return what has been out for too long: those devices are taken for gone.

        Too long is `patience` seconds, doubled each time a client was given up in a row. So a device that is slower
        than any fixed patience is heard in the end, and one that is gone is asked ever more rarely.
        """
        old = [
            message
            for message, asked in self._asked.items()
            if now - asked.sent_at > patience * 2 ** self._given_up.get(asked.client, 0)
        ]
        gone = [self._asked.pop(message) for message in old]
        for asked in gone:
            self._given_up[asked.client] = self._given_up.get(asked.client, 0) + 1
        return gone
