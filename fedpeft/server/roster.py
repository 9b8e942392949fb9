"""Who takes part, and what each client is known to hold."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from fedpeft.types import ClientId, ClientInfo


@dataclass(frozen=True, slots=True)
class Holding:
    """What a client holds as far as the coordinator has committed to it."""

    version: int = 0  # the last broadcast that it acknowledged
    feedback: int = -1  # the round whose residual counts: the last one folded in; -1 = none
    past: int = 0  # zeroth order: epochs for whose coefficients that version has a checkpoint


class Roster:
    """The clients of a run, by id.

    What a round learns (`learn`) becomes part of the roster's state only when that round is committed (`commit`):
    a round that is attempted again starts from what was known before it.
    """

    def __init__(self) -> None:
        self.clients: dict[ClientId, ClientInfo] = {}
        self._in_order = True  # whether `clients` is in id order
        self._said: dict[Any, Any] = {}  # what many clients say alike, kept once
        self._holdings: dict[ClientId, Holding] = {}
        self._learned: dict[ClientId, Holding] = {}

    def welcome(self, info: ClientInfo) -> None:
        """Take a client in after its hello; what it no longer has on disk is forgotten."""
        alike = {name: getattr(info, name) for name in ("device", "codecs", "objectives", "layout")}
        info = replace(info, **{name: self._said.setdefault(value, value) for name, value in alike.items()})
        self.clients[info.client] = info
        self._in_order = False
        holding = self._holdings.get(info.client, Holding())
        if holding.version and holding.version not in info.versions:
            self._holdings[info.client] = replace(holding, version=0, past=0)

    def available(self, busy: Iterable[ClientId]) -> list[ClientInfo]:
        """Clients that may be asked, in id order."""
        if not self._in_order:  # once: sorting a million ids takes longer than the rest of a round
            self.clients = dict(sorted(self.clients.items()))
            self._in_order = True
        out = set(busy)
        return [info for client, info in self.clients.items() if client not in out]

    def holding(self, client: ClientId) -> Holding:
        """What `client` holds, as of the last commit."""
        return self._holdings.get(client, Holding())

    def learn(self, client: ClientId, holding: Holding) -> None:
        """Note what a reply says about its client, for the next commit.

        A reply may tell of an older version than is known: in asynchronous rounds a client may have been sent a newer
        one, to evaluate, since it was asked. It holds that, and no longer the older.
        """
        known = self._learned.get(client, self.holding(client))
        if known.version > holding.version:
            holding = replace(holding, version=known.version, past=known.past)
        self._learned[client] = holding

    def commit(self) -> None:
        """Make what was learned known."""
        self._holdings.update(self._learned)
        self._learned = {}

    def forget_lessons(self) -> None:
        """Drop what was learned in an attempt that came to nothing."""
        self._learned = {}

    def lost_base(self, client: ClientId) -> None:
        """The client has lost the broadcast that it held: its next one is based on version 0. Its residual stays."""
        self._holdings[client] = replace(self.holding(client), version=0, past=0)
        self._learned.pop(client, None)

    def held_versions(self) -> set[int]:
        """All versions that some client holds."""
        return {holding.version for holding in self._holdings.values()}

    def state(self) -> dict[str, Any]:
        """For the snapshot: client -> [version, feedback], and past where it is not 0."""
        return {
            client: [holding.version, holding.feedback, *([holding.past] if holding.past else [])]
            for client, holding in sorted(self._holdings.items())
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go back to a committed state."""
        self._holdings = {ClientId(client): Holding(*map(int, numbers)) for client, numbers in state.items()}
        self._learned = {}
