"""The best round so far, and whether the run should end: a pure function of what was measured, in the order of rounds.

Because nothing else is remembered, a run that was killed comes to the same verdict when it goes on.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from fedpeft.journal import Headline


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the evaluations up to now say."""

    headline: Headline
    best_round: int | None  # None while nothing was measured; of equals the first
    best: float | None
    since: int  # evaluations in a row, up to the last one, that were no improvement

    def reason(self) -> str:
        """Why the run ends, as a sentence."""
        best = "" if self.best is None else f", the best was {self.best:.4g} in round {self.best_round}"
        times = f"{self.since} evaluation{'s' if self.since > 1 else ''} in a row"
        return f"{self.headline.name} has not improved in {times}{best}"


def verdict_on(
    history: Mapping[int, Mapping[str, float]],
    *,
    name: str = "",
    larger_is_better: bool | None = None,
    min_delta: float = 0.0,
) -> Verdict:
    """Look at a run's evaluations.

    Args:
        history: round -> what was measured; empty where nothing finite was, which is no improvement.
        name: of the headline metric, as the task says; see `Headline.of`.
        larger_is_better: of that metric, as the task says.
        min_delta: an improvement is better than the last improvement by more than this. The best round is the best one,
            whatever min_delta is.

    >>> rounds = {0: {"accuracy": 0.5}, 1: {"accuracy": 0.7}, 2: {"accuracy": 0.705}, 3: {"accuracy": 0.6}}
    >>> verdict = verdict_on(rounds, min_delta=0.01)
    >>> verdict.best_round, verdict.since
    (2, 2)
    >>> verdict.reason()
    'accuracy has not improved in 2 evaluations in a row, the best was 0.705 in round 2'
    """
    first = next((measured for _, measured in sorted(history.items()) if measured), {})
    headline = Headline.of(first, name, larger_is_better)
    best_round, best, reference, since = None, None, None, 0
    for number, measured in sorted(history.items()):
        value = measured.get(headline.name)
        if value is not None and (best is None or headline.gain(value, best) > 0):
            best_round, best = number, value
        if value is not None and (reference is None or headline.gain(value, reference) > min_delta):
            reference, since = value, 0
        else:
            since += 1
    return Verdict(headline, best_round, best, since)
