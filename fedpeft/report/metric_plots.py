"""Plots of metrics over the rounds: on the test set, and spread over the clients. See `plots` for their style."""

from __future__ import annotations

from collections.abc import Sequence

from fedpeft.journal.headline import ACCURACY, LOSS, is_share
from fedpeft.report.figure import Figure, figure_of, line
from fedpeft.report.history import History
from fedpeft.report.summary import wilson
from fedpeft.report.units import metric_label, metric_unit


def metrics_of(history: History) -> list[str]:
    """The metrics that have a plot of their own: the accuracy first; the loss has one with the clients' own."""
    return list(dict.fromkeys(name for item in history.tests for name in item.metrics if name != LOSS))


def metric_plot(history: History, name: str = ACCURACY) -> Figure | None:
    """A metric over the rounds, an accuracy with its 95 % interval, against the adapter trained on pooled data."""
    points = [(item, item.metrics[name]) for item in history.tests if name in item.metrics]
    if not points:
        return None
    rounds, scale = [item.round for item, _ in points], _scale(name)
    federated = line("federated", rounds, [scale * value for _, value in points], "@federated", symbol="circle")
    traces = [federated]
    if name == ACCURACY:
        ends = [wilson(value, item.examples) for item, value in points]
        highs, lows = [100 * high for _, high in ends], [100 * low for low, _ in ends]
        traces.insert(0, _band("95 % interval", rounds, lows, highs))
        federated["customdata"] = [
            [low, high, item.examples] for low, high, (item, _) in zip(lows, highs, points, strict=True)
        ]
        federated["hovertemplate"] = (
            "round %{x}: %{y:.1f} %<br>95 %: %{customdata[0]:.1f} to %{customdata[1]:.1f} %"
            "<br>%{customdata[2]} examples<extra></extra>"
        )
    pooled = history.centralised
    if pooled is not None and name in pooled.metrics:
        ends_of_line = [min(rounds), max([*rounds, min(rounds) + 1])]
        traces.append(
            line("centralised", ends_of_line, [scale * pooled.metrics[name]] * 2, "@centralised", dash="dash")
        )
    return figure_of(traces, "round", _axis(name), whole_x=True)


def spread_plot(history: History, name: str) -> Figure | None:
    """The clients' own evaluations over the rounds: mean, the middle half of the clients, the worst tenth."""
    found = {number: spreads[name] for number, spreads in sorted(history.spreads.items()) if name in spreads}
    if len(found) < 2:
        return None
    rounds, scale, spreads = list(found), _scale(name), list(found.values())
    low = [scale * spread.lower_quartile for spread in spreads]
    high = [scale * spread.upper_quartile for spread in spreads]
    traces = [
        _band("middle half of the clients", rounds, low, high),
        line("mean over clients", rounds, [scale * spread.mean for spread in spreads], "@federated", symbol="circle"),
        line(
            "weighted by examples",
            rounds,
            [scale * spread.weighted for spread in spreads],
            "@fourth",
            symbol="square",
            dash="dot",
        ),
        line(
            "worst tenth of the clients",
            rounds,
            [scale * spread.worst for spread in spreads],
            "@centralised",
            symbol="triangle-down",
            dash="dash",
        ),
    ]
    return figure_of(traces, "round", f"{_axis(name)}, on own held-out examples", whole_x=True)


def _band(name: str, x: Sequence[float], low: Sequence[float], high: Sequence[float]) -> Figure:
    return {
        "type": "scatter",
        "mode": "lines",
        "x": [*x, *reversed(x)],
        "y": [*high, *reversed(low)],
        "fill": "toself",
        "fillcolor": "@band",
        "line": {"width": 0},
        "hoverinfo": "skip",
        "name": name,
    }


def _scale(name: str) -> float:
    return 100.0 if is_share(name) else 1.0


def _axis(name: str) -> str:
    unit = metric_unit(name)
    return f"{metric_label(name)}, {unit}" if unit else metric_label(name)
