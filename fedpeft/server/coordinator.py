"""The coordinator's loop: hello, then round after round until the last is committed.

    hello -> [ select -> plan -> ask -> guard -> fold -> finish -> commit -> evaluate ] x rounds -> evaluate on clients

How a round gathers its updates is `CohortRound` (synchronous) or `BufferedRound` (asynchronous).

Every decision is an event in the journal, on disk before anything is done upon it. The only state that outlives a round
is what the commit wrote, so a coordinator that is killed anywhere goes on from the last commit and ends where it would
have, bit by bit. That holds while nobody is left out at a commit: after a deadline that fired, with over-selection, or
in an asynchronous run, a restart asks clients that would still have been busy, and the run ends soundly but with other
cohorts.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np

from fedpeft.aggregation.guard import UpdateGuard
from fedpeft.config import RunConfig
from fedpeft.errors import RoundError
from fedpeft.journal import EventKind, Journal
from fedpeft.paths import run_argument
from fedpeft.server import snapshot
from fedpeft.server.broadcasts import Broadcasts
from fedpeft.server.buffered import BufferedRound
from fedpeft.server.catch_up import Checkpoints
from fedpeft.server.cohort import CohortRound
from fedpeft.server.evaluations import Evaluations
from fedpeft.server.inflight import InFlight
from fedpeft.server.meeting import Meeting
from fedpeft.server.mixing import Mixing, with_rule
from fedpeft.server.post import Post
from fedpeft.server.pruning import Pruning
from fedpeft.server.reading import DeltaReading, ScalarReading
from fedpeft.server.roster import Roster
from fedpeft.server.round import Gathered, RoundShort
from fedpeft.server.scalars import ScalarStrategy, with_scalars
from fedpeft.server.schedules import load_schedule
from fedpeft.server.scheduling import Scheduling
from fedpeft.server.state import Settings, State
from fedpeft.strategies import Strategy
from fedpeft.strategies.asynchronous import check_asynchronous
from fedpeft.types import ClientId, Clock, FloatArray, Transport
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
        check_asynchronous(config, strategy)
        checkpoints = None if settings.checkpoints is None else Checkpoints(settings.checkpoints)
        self.broadcasts = Broadcasts(settings.initial, settings.downlink, checkpoints=checkpoints)
        self.strategy = strategy if settings.scalars is None else with_scalars(strategy, settings.scalars)
        self.strategy = with_rule(self.strategy, settings.mixing, settings.initial, self.broadcasts.start)
        self.journal = journal
        self.roster = Roster()
        self.inflight = InFlight()
        self.post = Post(
            config.run.name, transport, clock, FrameLimits(max_body_bytes=int(config.limits.max_frame_mb * 1e6))
        )
        self.pruning = None if settings.pruning is None else Pruning(settings.pruning, config)
        units = None if self.pruning is None else self.pruning.units
        self.state = State(
            config=config,
            settings=settings,
            clock=clock,
            strategy=self.strategy,
            journal=journal,
            post=self.post,
            guard=UpdateGuard(
                settings.layout.size,
                # scalars are bounded one by one, and what they add up to is counted in units of no meaning to a person
                config.limits.max_update_norm if settings.scalars is None else math.inf,
                config.limits.max_examples,
            ),
            broadcasts=self.broadcasts,
            roster=self.roster,
            inflight=self.inflight,
            schedule=load_schedule(config),
            scheduling=Scheduling(config, settings.scheduling, journal) if settings.scheduling is not None else None,
            pruning=self.pruning,
            reading=DeltaReading(settings.layout, units, config.adapter.merged)
            if settings.scalars is None
            else ScalarReading(settings.scalars),
        )
        self.meeting = Meeting(self.state)
        self.evaluations = Evaluations(self.state, evaluate)

    def run(self) -> FloatArray:
        """Run all rounds that are not committed yet; returns θ, shape (d,).

        Raises:
            RoundError: nobody to ask, or a round got too few replies in all its attempts.
            JournalError: the run folder cannot be written.
        """
        done, theta = self._begin()
        self.evaluations.begin()
        with self.journal.together():
            self.meeting.gather()
        self.evaluations.committed(done, theta)
        for number in range(done + 1, self.config.run.rounds + 1):
            if self.evaluations.stopped:
                break
            self.meeting.greet()
            theta = self._round(number, theta)
            self.evaluations.committed(number, theta)
        return theta

    def _begin(self) -> tuple[int, FloatArray]:
        commit = self.journal.last_commit()
        if commit is None:
            theta = self.settings.initial
            self._commit(0, theta, Gathered(0, 0.0, ()))
            return 0, theta
        restored = snapshot.restore(
            self.journal,
            commit,
            self.strategy,
            self.broadcasts,
            self.roster,
            self.settings.layout,
            self.state.scheduling,
            self.pruning,
        )
        if self.state.scheduling is not None:
            self.state.scheduling.recall(restored.round + 1)
        return restored.round, restored.theta

    def _round(self, number: int, theta: FloatArray) -> FloatArray:
        """One round, attempted until it has enough replies."""
        kind = BufferedRound if self.config.round.mode == "async" else CohortRound
        shorts = sum(event.round == number for event in self.journal.events(EventKind.ROUND_SHORT))
        while True:
            self.strategy.came_short(self._short_cohorts(number) if shorts else [])
            attempt = kind(self.state, number, self.journal.next_attempt(number), shorts)
            try:
                gathered = attempt.run(theta)
            except RoundShort as short:
                shorts += 1
                self.roster.forget_lessons()
                if self.state.scheduling is not None:
                    self.state.scheduling.came_short(number, attempt.attempt)
                self.journal.record(
                    EventKind.ROUND_SHORT,
                    round=number,
                    attempt=attempt.attempt,
                    accepted=short.accepted,
                    needed=self.config.round.min_replies,
                    seconds=short.seconds,
                )
                if shorts % self.config.round.attempts == 0:
                    raise RoundError(
                        f"round {number} got {short.accepted} usable replies in attempt {attempt.attempt}, "
                        f"{self.config.round.min_replies} are needed: {short.reasons}",
                        code="round.too-few-replies",
                        allowed=f"round.min_replies = {self.config.round.min_replies} or more in one of "
                        f"{self.config.round.attempts} attempts",
                        remedy="correct what the clients report, then: "
                        f"fedpeft resume {run_argument(self.config.folder)}",
                    ) from None
                continue
            after = self._finish(theta)
            if self.state.scheduling is not None:
                self.state.scheduling.learn(number, attempt.attempt)
            self._commit(number, after, gathered, attempt.attempt)
            return after

    def _short_cohorts(self, number: int) -> list[list[ClientId]]:
        """Whom the attempts of a round asked that came short; of the journal, so that a restart changes nothing."""
        short = {event.attempt for event in self.journal.events(EventKind.ROUND_SHORT) if event.round == number}
        opened = [event for event in self.journal.events(EventKind.ROUND_OPENED) if event.round == number]
        return [event.payload["cohort"] for event in opened if event.attempt in short]

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
            self._check_exact(after)
            return after
        raise RoundError(
            f'strategy "{self.config.strategy.name}" made {found} of finite updates',
            code="round.strategy-broke",
            allowed=f"finite float32 of shape {theta.shape}",
            remedy="lower its learning rate, or correct the strategy",
        )

    def _outlying(self) -> dict[str, list[ClientId]]:
        """Whom the commit names for scalars far from all others."""
        found = self.strategy.outlying if isinstance(self.strategy, ScalarStrategy) else []
        return {"outlying": found} if found else {}

    def _owed(self) -> dict[str, float]:
        """What the commit tells of a lossy downlink."""
        owed = self.broadcasts.owed
        return {} if owed is None else {"owed": owed}

    def _mixing(self) -> dict[str, Any]:
        """What mixing the round's LoRA factors cost, where a rule did, and whose ranks it lowered."""
        if not isinstance(self.strategy, Mixing):
            return {}
        losses, falling = self.strategy.losses, self.strategy.falling
        told: dict[str, Any] = asdict(losses) if losses is not None else {}
        return told | ({"ranks": falling.fell} if falling is not None and falling.fell else {})

    def _hash(self, theta: FloatArray) -> str:
        """Of the adapter: of the model that coefficients make, where it is rebuilt here."""
        scalars = self.settings.scalars
        return adapter_hash(theta) if scalars is None or scalars.digest is None else scalars.digest(theta)

    def _check_exact(self, after: FloatArray) -> None:
        """Of a zeroth-order run's coefficients everybody must be able to rebuild the same model."""
        if self.settings.scalars is None:
            return
        try:
            self.settings.scalars.coordinates.check(after)
        except ValueError as error:
            raise RoundError(
                f'strategy "{self.config.strategy.name}": {error}',
                code="round.coefficients",
                remedy="lower zeroth.resolution, zeroth.clip or the strategy's learning rate, or set zeroth.refresh so "
                "that a pool is used for fewer rounds",
            ) from error

    def _commit(self, number: int, theta: FloatArray, gathered: Gathered, attempt: int | None = None) -> None:
        self.roster.commit()
        if self.pruning is not None:
            self.pruning.finish(number)
        out = self.inflight.versions()
        self.broadcasts.publish(number, theta, self.roster.held_versions() | out, out)
        self.journal.commit(
            number,
            snapshot.take(
                theta,
                self.strategy,
                self.broadcasts,
                self.roster,
                self.settings.layout.digest,
                self.state.scheduling,
                self.pruning,
            ),
            adapter=self._hash(theta),
            attempt=attempt,
            accepted=gathered.accepted,
            seconds=gathered.seconds,
            learning_rate=self.state.learning_rate(number) if number else None,
            **gathered.staleness(),
            **self._owed(),
            **self._outlying(),
            **self._mixing(),
            **self.post.moved_since_last("train"),
        )


def adapter_hash(theta: FloatArray) -> str:
    """The name of an adapter's exact bits: sha256 hex of θ as little-endian fp32."""
    return hashlib.sha256(np.ascontiguousarray(theta, dtype="<f4").tobytes()).hexdigest()
