"""The coordinator's loop: hello, then round after round until the last is committed.

    hello -> [ select -> plan -> ask -> guard -> fold -> finish -> commit -> evaluate ] x rounds -> evaluate on clients

Every decision is an event in the journal, on disk before anything is done upon it. The only state that outlives a round
is what the commit wrote, so a coordinator that is killed anywhere goes on from the last commit and ends where it would
have, bit by bit. That holds while nobody is left out at a commit: after a deadline that fired, or with over-selection,
a restart asks clients that would still have been busy, and the run ends soundly but with other cohorts.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from fedpeft.aggregation.guard import UpdateGuard
from fedpeft.config import RunConfig
from fedpeft.errors import RoundError
from fedpeft.journal import EventKind, Journal
from fedpeft.server import snapshot
from fedpeft.server.broadcasts import Broadcasts
from fedpeft.server.inflight import InFlight
from fedpeft.server.post import Post
from fedpeft.server.roster import Roster
from fedpeft.server.round import Round, RoundShort
from fedpeft.server.state import Settings, State
from fedpeft.strategies import Strategy
from fedpeft.types import Clock, FloatArray, Transport
from fedpeft.wire.frame import FrameLimits

if TYPE_CHECKING:
    from fedpeft.evaluation import Evaluation  # brings torch, which a coordinator does without


class Coordinator:
    """Runs a federation to its last round.

    Args:
        config: the run file.
        settings: layout, θ_0, per-device steps.
        transport: moves frames.
        clock: measures deadlines.
        strategy: whom to ask and how to fold.
        journal: open for writing; a commit in it is where the run goes on from.
        evaluate: (θ, last) -> evaluation on the coordinator's test set; None where there is none.
    """

    def __init__(
        self,
        config: RunConfig,
        settings: Settings,
        transport: Transport,
        clock: Clock,
        strategy: Strategy,
        journal: Journal,
        evaluate: Callable[[FloatArray, bool], Evaluation | None],
    ) -> None:
        self.config = config
        self.settings = settings
        self.strategy = strategy
        self.journal = journal
        self.evaluate = evaluate
        self._evaluated: set[int | None] = set()  # rounds whose adapter an earlier start has evaluated
        self.roster = Roster()
        self.inflight = InFlight()
        self.broadcasts = Broadcasts(settings.initial, config.codec.down)
        self.post = Post(
            config.run.name, transport, clock, FrameLimits(max_body_bytes=int(config.limits.max_frame_mb * 1e6))
        )
        self.state = State(
            config=config,
            settings=settings,
            clock=clock,
            strategy=strategy,
            journal=journal,
            post=self.post,
            guard=UpdateGuard(settings.layout.size, config.limits.max_update_norm, config.limits.max_examples),
            broadcasts=self.broadcasts,
            roster=self.roster,
            inflight=self.inflight,
        )

    def run(self) -> FloatArray:
        """Run all rounds that are not committed yet; returns θ, shape (d,).

        Raises:
            RoundError: nobody to ask, or a round got too few replies in all its attempts.
            JournalError: the run folder cannot be written.
        """
        done, theta = self._begin()
        self._evaluated = {event.round for event in self.journal.events(EventKind.EVALUATED)}
        with self.journal.together():
            self._hello()
        self._evaluate(done, theta)
        if done == 0:
            self._evaluate_on_clients(0)
        for number in range(done + 1, self.config.run.rounds + 1):
            theta = self._round(number, theta)
            self._evaluate(number, theta)
        self._evaluate_on_clients(self.config.run.rounds)
        return theta

    def _begin(self) -> tuple[int, FloatArray]:
        commit = self.journal.last_commit()
        if commit is None:
            theta = self.settings.initial
            self._commit(0, theta, accepted=0, seconds=0.0)
            return 0, theta
        restored = snapshot.restore(
            self.journal, commit, self.strategy, self.broadcasts, self.roster, self.settings.layout.digest
        )
        return restored.round, restored.theta

    def _hello(self) -> None:
        """Meet every node; those that cannot take part are named and left out."""
        for reply in self.post.exchange_hello(self.config.round.deadline_s, self.state.pause):
            info = reply.info
            if info is None:
                self.journal.record(EventKind.HELLO_FAILED, client=reply.client, reason=reply.reason)
                continue
            reason = self._unfit(info.examples, info.layout, info.codecs, info.objectives)
            if reason:
                self.journal.record(EventKind.HELLO_FAILED, client=info.client, reason=reason)
                continue
            known = self.roster.clients.get(info.client)
            if known is not None:
                reason = f"node {known.node} already stands for client {info.client}; node {info.node} is left out"
                self.journal.record(EventKind.HELLO_FAILED, client=info.client, reason=reason)
                continue
            self.roster.welcome(info)
            self.journal.record(EventKind.HELLO, client=info.client, examples=info.examples, device=info.device)
        if not self.roster.clients:
            reasons = {event.payload["reason"] for event in self.journal.events(EventKind.HELLO_FAILED)}
            raise RoundError(
                "no client can take part: " + ("; ".join(sorted(map(str, reasons))[:3]) or "no node answered"),
                code="round.no-clients",
                remedy="correct what the clients report and run again",
            )

    def _unfit(self, examples: int, layout: str, codecs: tuple[str, ...], objectives: tuple[str, ...]) -> str:
        """Why a client cannot take part; empty when it can."""
        if examples < 1:
            return "it has no training examples"
        if layout != self.settings.layout.digest:
            return f"its adapter has layout {layout[:12]}, the run's is {self.settings.layout.digest[:12]}"
        codec, objective = self.config.codec.up, self.strategy.objective
        if codec not in codecs and ".py:" not in codec:
            return f'it lacks the codec "{codec}"'
        if objective not in objectives and ".py:" not in objective:
            return f'it lacks the objective "{objective}" that the strategy asks for'
        return ""

    def _round(self, number: int, theta: FloatArray) -> FloatArray:
        """One round, attempted until it has enough replies."""
        shorts = sum(event.round == number for event in self.journal.events(EventKind.ROUND_SHORT))
        while True:
            attempt = Round(self.state, number, self.journal.next_attempt(number), shorts)
            try:
                accepted, seconds = attempt.run(theta)
            except RoundShort as short:
                shorts += 1
                self.roster.forget_lessons()
                self.journal.record(
                    EventKind.ROUND_SHORT,
                    round=number,
                    attempt=attempt.attempt,
                    accepted=short.accepted,
                    needed=self.config.round.min_replies,
                )
                if shorts % self.config.round.attempts == 0:
                    raise RoundError(
                        f"round {number} got {short.accepted} usable replies in attempt {attempt.attempt}, "
                        f"{self.config.round.min_replies} are needed: {short.reasons}",
                        code="round.too-few-replies",
                        allowed=f"round.min_replies = {self.config.round.min_replies} or more in one of "
                        f"{self.config.round.attempts} attempts",
                        remedy=f"correct what the clients report, then: fedpeft resume {self.config.run.name}",
                    ) from None
                continue
            after = self._finish(theta)
            self._commit(number, after, attempt=attempt.attempt, accepted=accepted, seconds=seconds)
            return after

    def _finish(self, theta: FloatArray) -> FloatArray:
        """What the strategy makes of the round, checked: nothing broken is ever committed."""
        after: Any = self.strategy.finish()
        if not isinstance(after, np.ndarray):
            found = f"a {type(after).__name__}"
        elif after.shape != theta.shape or after.dtype != np.float32:
            found = f"an adapter of shape {after.shape}, dtype {after.dtype}"
        elif not np.isfinite(after).all():
            found = f"an adapter with {int((~np.isfinite(after)).sum())} values that are not finite"
        else:
            return after
        raise RoundError(
            f'strategy "{self.config.strategy.name}" made {found} of finite updates',
            code="round.strategy-broke",
            allowed=f"finite float32 of shape {theta.shape}",
            remedy="lower its learning rate, or correct the strategy",
        )

    def _commit(
        self, number: int, theta: FloatArray, *, accepted: int, seconds: float, attempt: int | None = None
    ) -> None:
        self.roster.commit()
        self.broadcasts.publish(number, theta, self.roster.held_versions())
        self.journal.commit(
            number,
            snapshot.take(theta, self.strategy, self.broadcasts, self.roster, self.settings.layout.digest),
            adapter=adapter_hash(theta),
            attempt=attempt,
            accepted=accepted,
            seconds=seconds,
            **self.post.moved_since_last("train"),
        )

    def _evaluate(self, number: int, theta: FloatArray) -> None:
        """Evaluate a committed adapter on the coordinator's test set, unless the journal already has it."""
        last = number == self.config.run.rounds
        if not (last or number % self.config.evaluation.every == 0):
            return
        if number in self._evaluated:
            return
        result = self.evaluate(theta, number == 0 or last)
        if result is not None:
            self.journal.record(
                EventKind.EVALUATED,
                round=number,
                split="test",
                accuracy=_finite(result.accuracy),
                loss=_finite(result.loss),
                examples=result.examples,
            )

    def _evaluate_on_clients(self, number: int) -> None:
        """Let every client evaluate the current broadcast on its own held-out examples; missing answers are missing."""
        if not self.config.evaluation.clients:
            return
        done = {e.client for e in self.journal.events(EventKind.CLIENT_EVALUATED) if e.round == number}
        wanted = [info for info in self.roster.available(self.inflight.busy()) if info.client not in done]
        frames = []
        for info in wanted:
            base = self.broadcasts.base_for(self.roster.holding(info.client).version)
            frames.append((info, base, self.broadcasts.body(base)))
        version = self.broadcasts.version
        with self.journal.together():
            for reply in self.post.exchange_evaluate(
                frames, number, version, self.config.round.deadline_s, self.state.pause
            ):
                frame = reply.frame
                if frame is None or frame.weight < 1:
                    continue
                accuracy = frame.metrics.get("accuracy")
                if accuracy is not None and not 0 <= accuracy <= 1:
                    continue
                self.journal.record(
                    EventKind.CLIENT_EVALUATED,
                    round=number,
                    client=reply.client,
                    accuracy=accuracy,
                    loss=frame.metrics.get("loss"),
                    examples=int(frame.weight),
                )


def _finite(value: float | None) -> float | None:
    """None for a loss that overflowed: the journal keeps numbers only, and a bad model is no reason to stop."""
    return value if value is not None and math.isfinite(value) else None


def adapter_hash(theta: FloatArray) -> str:
    """The name of an adapter's exact bits: sha256 hex of θ as little-endian fp32."""
    return hashlib.sha256(np.ascontiguousarray(theta, dtype="<f4").tobytes()).hexdigest()
