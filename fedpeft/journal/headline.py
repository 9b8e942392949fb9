"""The one metric that a run is judged by: its name, which way is better, and how to find it in an event's payload."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from fedpeft.journal.events import Event, EventKind

ACCURACY, LOSS = "accuracy", "loss"

SHARES = frozenset({ACCURACY, "exact_match"})
"""Metrics that are a share of the examples, each right or wrong: shown in percent, and a score interval is right."""

SMALLER_IS_BETTER = frozenset({LOSS, "perplexity", "error", "error_rate", "mae", "mse", "rmse", "wer", "cer"})
"""Metrics that are better when they are smaller, where a task does not say."""


def is_share(name: str) -> bool:
    """Whether a metric is a share of the examples, each right or wrong."""
    return name in SHARES or name.endswith("_accuracy")


def measured(payload: Mapping[str, Any]) -> dict[str, float]:
    """All that an `evaluated` or `client_evaluated` event has measured: accuracy first, loss last."""
    named = {ACCURACY: payload.get(ACCURACY), **payload.get("metrics", {})}
    named[LOSS] = payload.get(LOSS)
    return {name: value for name, value in named.items() if value is not None}


@dataclass(frozen=True, slots=True)
class Headline:
    """The metric that tables, bars and the choice of the best round go by."""

    name: str = ACCURACY
    larger_is_better: bool = True

    @classmethod
    def of(cls, measured: Mapping[str, float], name: str = "", larger_is_better: bool | None = None) -> Headline:
        """The headline of a task.

        Args:
            measured: what an evaluation measured.
            name: as the task says; "" = the accuracy where there is one, else the first metric, else the loss.
            larger_is_better: as the task says of its own headline; None = as `SMALLER_IS_BETTER` says of the name.
        """
        chosen = name if name in measured else ACCURACY if ACCURACY in measured else next(iter(measured), ACCURACY)
        if larger_is_better is None or chosen != name:
            larger_is_better = chosen not in SMALLER_IS_BETTER
        return cls(chosen, larger_is_better)

    @classmethod
    def of_events(cls, events: Iterable[Event]) -> Headline:
        """The headline of a run: what its plan says, settled by the first evaluation that there is."""
        name, larger = "", None
        for event in events:
            if event.kind is EventKind.RUN_STARTED:
                plan = event.payload.get("plan") or {}
                name, larger = plan.get("headline", name), plan.get("larger_is_better", larger)
            elif event.kind in (EventKind.EVALUATED, EventKind.CLIENT_EVALUATED):
                found = measured(event.payload)
                if found:
                    return cls.of(found, name, larger)
        return cls.of({name: 0.0} if name else {}, name, larger)

    def value(self, payload: Mapping[str, Any]) -> float | None:
        """Its value in the payload of an event; None where it was not measured."""
        return measured(payload).get(self.name)

    def gain(self, value: float, over: float) -> float:
        """How much better `value` is than `over`; negative when it is worse."""
        return value - over if self.larger_is_better else over - value
