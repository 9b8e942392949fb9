"""An asynchronous round: clients train all the time, and each `buffer` updates make a commit.

FedBuff: Nguyen et al. 2022, "Federated Learning with Buffered Asynchronous Aggregation" (arXiv 2106.06639),
Algorithm 1. `round.ask` clients (the paper's concurrency M_c) are training at any time. Whoever has answered is
replaced by another, whose plan refers to the newest version. A delta is folded with its weight times s(τ), τ being how
many commits were made since its client was asked; K = `round.buffer` of them are one round, and the strategy's step:

    Δ̄ = Σ_k n_k s(τ_k) Δ_k / Σ_k n_k s(τ_k),      θ ← step(θ, Δ̄)

(strategy "fedbuff" divides as the paper does, so that a stale buffer makes a shorter step). Nobody waits for the
slowest: a slow device answers to an older version, it does not hold up the others.

Rules beyond the paper, for clients that keep a residual and hold versions:
* a client trains at most once from each version, so that (round, client) names one piece of work, as everywhere else;
* a client whose update is in the open buffer is not asked before the commit: its residual is not settled until then;
* replies beyond the K-th that are here already wait for the next commit;
* a commit is made early, with `round.min_replies` updates at least, once `round.deadline_s` has passed since the last
  one, or when nobody is out and nobody can be asked;
* a client that has been out for longer than the deadline no longer takes the place of another. It is heard whenever it
  answers; after `PATIENCE` deadlines, doubled each time, it is taken for gone, and may be asked again.

What is in flight or in the buffer when the coordinator is killed is lost by design: it goes on from the last commit and
asks again, under a new attempt number. Such a run ends soundly, but with another adapter than an uninterrupted one.
"""

from __future__ import annotations

from fedpeft.journal import EventKind
from fedpeft.randomness.streams import derive_seed
from fedpeft.server.round import PATIENCE, Round
from fedpeft.server.staleness import staleness_weight
from fedpeft.server.state import State
from fedpeft.types import ClientId, Incoming


class BufferedRound(Round):
    """One buffer, from a commit to the next."""

    def __init__(self, state: State, number: int, attempt: int, shorts: int) -> None:
        super().__init__(state, number, attempt, shorts)
        self.asked: set[ClientId] = set()  # from this version, in this attempt

    def _gather(self) -> None:
        clock, table, inflight = self.state.clock, self.state.config.round, self.state.inflight
        deadline = clock.now() + table.deadline_s
        self._record(EventKind.ROUND_OPENED, None, cohort=[])
        self.state.journal.flush()  # the number of this attempt is used from here on
        while True:
            self._receive()
            late = clock.now() >= deadline and self.accepted >= table.min_replies
            if self.accepted >= table.updates or late:
                break
            for asked in inflight.give_up(clock.now(), PATIENCE * table.deadline_s):
                self._record(EventKind.ABANDONED, asked.client)
                self.faults.append(f"client {asked.client}: no reply to round {asked.round}")
                if self.state.scheduling is not None:
                    self.state.scheduling.heard(asked, None)
            if not self._refill() and not inflight.messages():
                break
            self.state.pause()

    def _counts(self, age: int) -> bool:
        return True

    def _discount(self, age: int) -> float:
        return staleness_weight(self.state.config.round, age)

    def _refill(self) -> bool:
        """Let others train in place of those that have answered; whether anybody was asked."""
        config, inflight = self.state.config, self.state.inflight
        training = inflight.asked_since(self.state.clock.now() - config.round.deadline_s)
        count = config.round.ask - training
        if count <= 0:
            return False
        available = self.state.roster.available(inflight.busy() | self.heard | self.asked)
        seed = derive_seed(config.run.seed, "select", self.number, self.shorts, len(self.asked))
        chosen = self._choose(available, min(count, len(available)), seed)
        self.asked.update(info.client for info in chosen)
        self._send(chosen)
        return bool(chosen)

    def _receive(self) -> None:
        """Fold what is here, up to a full buffer; the rest is kept for the next."""
        inflight = self.state.inflight
        inflight.keep(self.state.post.receive(inflight.messages()))
        while self.accepted < self.state.config.round.updates and (incoming := inflight.next_kept()) is not None:
            self._take(incoming)

    def _take(self, incoming: Incoming) -> None:
        asked = self.state.inflight.pop(incoming.message)
        if asked is None:
            return
        oldest = self.state.config.round.max_staleness
        if oldest is not None and self.number - asked.round > oldest:
            self._late(incoming, asked, "drop")
        else:
            self._fold_or_refuse(incoming, asked)
