"""A synchronous round: ask a cohort, take replies as they come, stop when there are enough or time is up.

A client that misses the deadline stays busy and is not asked again until it has answered or is taken for gone. What it
sends then is late: forgotten, or folded in with its weight discounted by its age, as `round.late` says. So a device
slower than every deadline still gets its say with "fold", and in no case does a round wait for it for ever.
"""

from __future__ import annotations

from collections.abc import Sequence

from fedpeft.journal import EventKind
from fedpeft.randomness.streams import derive_seed
from fedpeft.server.round import PATIENCE, Round
from fedpeft.types import ClientInfo, Incoming


class CohortRound(Round):
    """One attempt of a synchronous round."""

    def _gather(self) -> None:
        """Ask, and take replies until there are enough, nobody is out any more, or the deadline has passed."""
        clock, config, inflight = self.state.clock, self.state.config, self.state.inflight
        needed = self._ask(self._available())
        deadline = clock.now() + config.round.deadline_s
        while True:
            self._receive(needed)
            if self.accepted >= needed or not inflight.waits_for(self.number, self.attempt):
                break
            if clock.now() >= deadline:
                for asked in inflight.of_round(self.number, self.attempt):
                    self._record(EventKind.ABANDONED, asked.client)
                    self.faults.append(f"client {asked.client}: no reply within {config.round.deadline_s:g} s")
                    if self.state.scheduling is not None:
                        self.state.scheduling.heard(asked, None)
                break
            self.state.pause()

    def _counts(self, age: int) -> bool:
        return age == 0

    def _discount(self, age: int) -> float:
        return self.state.config.round.late_discount**age

    def _available(self) -> Sequence[ClientInfo]:
        """The clients that can be asked.

        While too few of them are free to make a round, this waits for those that are still out, for one deadline at
        most: without it, devices that are all slower than the deadline would use up the attempts at once. Who fits no
        arm of the scheduler makes no round.
        """
        clock, config, inflight = self.state.clock, self.state.config, self.state.inflight
        deadline, patience = clock.now() + config.round.deadline_s, PATIENCE * config.round.deadline_s
        if inflight.overdue(clock.now() - patience):  # it may have answered while the coordinator evaluated
            self._receive(config.round.ask)
        while True:
            for asked in inflight.give_up(clock.now(), patience):
                self._forget(asked.round, asked.attempt, asked.client)
            free = self._fitting(self.state.roster.available(inflight.busy() | self.heard))
            enough = self.accepted + len(free) >= config.round.min_replies
            if enough or not inflight.messages() or clock.now() >= deadline:
                return free
            self.state.pause()
            self._receive(config.round.ask)

    def _ask(self, available: Sequence[ClientInfo]) -> int:
        """Select, plan and send; returns how many updates close the round."""
        config = self.state.config
        count = min(config.round.ask + config.round.over_select - self.accepted, len(available))
        chosen = self._choose(available, count, derive_seed(config.run.seed, "select", self.number, self.shorts))
        self._record(EventKind.ROUND_OPENED, None, cohort=[info.client for info in chosen])
        self.state.journal.flush()  # the number of this attempt is used from here on
        self._send(chosen)
        return min(config.round.ask, self.accepted + len(chosen))

    def _receive(self, needed: int) -> None:
        for incoming in self.state.post.receive(self.state.inflight.messages()):
            self._take(incoming, needed)

    def _take(self, incoming: Incoming, needed: int) -> None:
        """One reply: fold it, refuse it, or treat it as late."""
        asked = self.state.inflight.pop(incoming.message)
        if asked is None:
            return
        late = (asked.round, asked.attempt) != (self.number, self.attempt)
        if late or self.accepted >= needed:
            # A reply to an earlier attempt of this round starts from the same θ: its age is 0, it counts in full.
            rule = "fold" if late and self.state.config.round.late == "fold" else "drop"
            self._late(incoming, asked, rule)
            if rule == "drop":
                return
        self._fold_or_refuse(incoming, asked)
