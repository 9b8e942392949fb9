"""How good the adapter is: on the coordinator's test set, and on what the clients hold out themselves.

Each evaluation is an event in the journal; one that an earlier start of the run has recorded is not done again. What is
watched (`evaluation.keep`, `patience`, `target`) is the headline metric on the test set, or, where the coordinator has
none, the clients' mean weighted by their examples. With `evaluation.examples` the watched rounds, the first and the
last among them, are judged on the same sample, and the first and the last on the whole test set too.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from fedpeft.journal import Event, EventKind, measured
from fedpeft.server.best import keep_best, read_best
from fedpeft.server.client_evaluations import ClientEvaluations
from fedpeft.server.state import State
from fedpeft.server.watch import Verdict, verdict_on
from fedpeft.types import FloatArray

if TYPE_CHECKING:
    from fedpeft.evaluation import Evaluation  # brings torch, which a coordinator does without


class Evaluations:
    """The evaluations of a run.

    Args:
        state: the coordinator's parts.
        evaluate: (θ, whole) -> evaluation on the coordinator's test set, or on the sample of it; None where there is no
            test set.

    Attributes:
        stopped: no further round is to be begun.
    """

    def __init__(self, state: State, evaluate: Callable[[FloatArray, bool], Evaluation | None]) -> None:
        self.state = state
        self.evaluate = evaluate
        self.clients = ClientEvaluations(state)
        self.table = state.config.evaluation
        self.sampled = self.table.examples > 0
        self.stopped = False
        self._done: set[tuple[int, str, bool]] = set()  # round, split, whole
        self._tests: dict[int, Mapping[str, float]] = {}  # round -> what was measured on the test set, or its sample
        self._wholes: dict[int, Mapping[str, float]] = {}  # round -> what was measured on the whole of it

    def begin(self) -> None:
        """Look up in the journal what an earlier start has done."""
        for event in self.state.journal.events(EventKind.EVALUATED):
            self._note(event)
        self.clients.begin()
        self.stopped = any(True for _ in self.state.journal.events(EventKind.STOPPED))

    def committed(self, number: int, theta: FloatArray) -> None:
        """Evaluate the adapter that round `number` has committed, θ of shape (d,), where the run file says so."""
        table, rounds = self.table, self.state.config.run.rounds
        ends = number in (0, rounds)
        due = ends or number % table.every == 0
        if due and (table.watched or not self.sampled or not ends):
            self._on_test_set(number, theta, whole=not self.sampled)
        if table.clients_every and (ends or number % table.clients_every == 0):
            self.clients.evaluate(number)
        if table.watched:
            self._keep_best(number, theta)
        if 0 < number < rounds and not self.stopped and (reason := self._reached(number, theta) or self._weary(number)):
            best = self._verdict(number).best_round
            self.state.journal.record(EventKind.STOPPED, round=number, reason=reason, best_round=best)
            self.stopped = True
        if ends or self.stopped:
            self._on_test_set(number, theta, whole=True)
            self.clients.evaluate(number)
        if number == rounds or self.stopped:
            self.clients.personalise(number)
            self._judge_best(number)

    def _on_test_set(self, number: int, theta: FloatArray, *, whole: bool, split: str = "test") -> None:
        if (number, split, whole) in self._done:
            return
        result = self.evaluate(theta, whole)
        if result is not None:
            metrics = {name: value for name, value in result.metrics.items() if _finite(value) is not None}
            metrics.pop("accuracy", None)  # it has a key of its own
            event = self.state.journal.record(
                EventKind.EVALUATED,
                round=number,
                split=split,
                accuracy=_finite(result.accuracy),
                loss=_finite(result.loss),
                metrics=metrics,
                examples=result.examples,
                whole=whole,
            )
            self._note(event)

    def _note(self, event: Event) -> None:
        if event.round is None:
            return
        split, whole = event.payload["split"], event.payload.get("whole", True)
        self._done.add((event.round, split, whole))
        if split == "test" and whole is not self.sampled:
            self._tests[event.round] = measured(event.payload)
        if split == "test" and whole:
            self._wholes[event.round] = measured(event.payload)

    def _keep_best(self, number: int, theta: FloatArray) -> None:
        """Keep the adapter if its round is the best so far."""
        if self._verdict(number).best_round == number:
            known = read_best(self.state.journal.folder)
            if known is None or known[0] != number:
                keep_best(self.state.journal.folder, number, theta, self.state.settings.layout.digest)

    def _weary(self, number: int) -> str:
        """Why the run ends, where nothing has improved for long enough."""
        patience = self.table.patience
        verdict = self._verdict(number) if patience else None
        return verdict.reason() if verdict is not None and verdict.since >= patience else ""

    def _reached(self, number: int, theta: FloatArray) -> str:
        """Why the run ends, where it is good enough: what a sample says, the whole test set must confirm."""
        target = self.table.target
        if target is None:
            return ""
        headline = self._verdict(number).headline
        value = (self._tests or self.clients.means).get(number, {}).get(headline.name)
        if value is None or headline.gain(value, target) < 0:
            return ""
        if self._tests:
            self._on_test_set(number, theta, whole=True)
            value = self._wholes[number].get(headline.name)
            if value is None or headline.gain(value, target) < 0:
                return ""
        return f"{headline.name} has reached {value:.4g}, and evaluation.target = {target:g}"

    def _verdict(self, number: int) -> Verdict:
        """On all rounds up to `number`."""
        history = self._tests or self.clients.means
        settings = self.state.settings
        return verdict_on(
            {at: found for at, found in history.items() if at <= number},
            name=settings.headline,
            larger_is_better=settings.larger_is_better,
            min_delta=self.table.min_delta,
        )

    def _judge_best(self, number: int) -> None:
        """Judge the best adapter on the whole test set, beside the last one."""
        best = read_best(self.state.journal.folder) if self.table.watched else None
        if best is not None and best[0] != number:
            self._on_test_set(*best, whole=True, split="best")


def _finite(value: float | None) -> float | None:
    """None for a loss that overflowed: the journal keeps numbers only, and a bad model is no reason to stop."""
    return value if value is not None and math.isfinite(value) else None
