"""A run's figures as points for other tools: (step, name, value), read from the journal's events one by one.

    test/accuracy            on the coordinator's test set; beside it test/loss and every other metric of the task
    test-sample/accuracy     the same on the sample that `evaluation.examples` takes of it
    best/accuracy            the same of the best round's adapter, where it is not the last; at the step of its round
    centralised/accuracy     the same of the adapter trained on pooled data, at the step of the last round
    clients/accuracy/mean    over the clients that evaluated: mean, weighted, min, lower_quartile, median, ...
    tuned/...                the same after each client's own steps
    train/loss_first         mean of the folded updates, weighted by examples; train/loss_last beside it
    round/replies            folded in the round; beside it frame_up, frame_down (bytes), learning_rate, ...
    round/seconds            of the coordinator's clock, with those of attempts that came short

The step is the round. The same journal gives the same points, so a sink can be filled anew at any time.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from fedpeft.journal import Event, EventKind, measured

MIXING = ("mix_distance", "mix_carried", "mix_discarded")
"""What mixing LoRA factors cost, in a commit of a run with a rule; shares of what clients changed in the product."""


@dataclass(frozen=True, slots=True)
class Point:
    """One figure of one round."""

    step: int  # the round; 0 is the untrained adapter
    name: str  # e.g. "test/accuracy"
    value: float
    at: float  # unix seconds


class PointReader:
    """Turns events into points. Updates of an attempt that was not committed count nowhere."""

    def __init__(self) -> None:
        self._round = 0  # the last committed
        self._sums: dict[str, tuple[float, float]] = {}  # name -> (weighted sum, weight), of the open attempt
        self._short = 0.0  # seconds of attempts that came short, since the last commit

    def read(self, event: Event) -> list[Point]:
        """The points of one event, in a fixed order; events in the order of the run."""
        return [Point(step, name, float(value), event.at) for step, name, value in self._figures(event)]

    def _figures(self, event: Event) -> Iterator[tuple[int, str, float]]:
        payload = event.payload
        match event.kind:
            case EventKind.EVALUATED:
                step = self._round if event.round is None else event.round
                sample = "" if payload.get("whole", True) else "-sample"
                for name, value in measured(payload).items():
                    yield step, f"{payload['split']}{sample}/{name}", value
            case EventKind.CLIENTS_EVALUATED:
                for group in ("clients", "tuned"):
                    for name, spread in payload.get(group, {}).items():
                        for key, value in spread.items():
                            if key not in ("clients", "examples") and value is not None:
                                yield event.round or 0, f"{group}/{name}/{key}", value
            case EventKind.RUN_STARTED:
                self._sums.clear()
            case EventKind.ROUND_SHORT:
                self._sums.clear()
                self._short += payload.get("seconds", 0.0)  # not told by older journals
            case EventKind.ACCEPTED:
                for name in ("loss_first", "loss_last"):
                    loss, weight = payload.get(name), payload["weight"]
                    if loss is not None:
                        total, weights = self._sums.get(name, (0.0, 0.0))
                        self._sums[name] = (total + weight * loss, weights + weight)
            case EventKind.COMMITTED:
                self._round = event.round or 0
                if self._round:
                    yield from self._of_round(payload)
                self._sums.clear()
                self._short = 0.0

    def _of_round(self, payload: Mapping[str, Any]) -> Iterator[tuple[int, str, float]]:
        for name, (total, weight) in self._sums.items():
            if weight > 0:
                yield self._round, f"train/{name}", total / weight
        yield self._round, "round/replies", payload["accepted"]
        yield self._round, "round/seconds", payload["seconds"] + self._short
        keys = ("frame_up", "frame_down", "learning_rate", "staleness_mean", "staleness_max", "owed", *MIXING)
        for key in keys:
            if payload.get(key) is not None:
                yield self._round, f"round/{key}", payload[key]
