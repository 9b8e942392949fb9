"""Plots of a run against the devices' own time: how soon it was how good, and how stale its updates were."""

from __future__ import annotations

from itertools import accumulate

from fedpeft.journal.headline import is_share
from fedpeft.report.figure import Figure, figure_of, line
from fedpeft.report.history import History
from fedpeft.report.units import metric_label, metric_unit


def clock_plot(history: History, name: str) -> Figure | None:
    """A metric on the test set over the seconds of the rounds so far, on the coordinator's clock."""
    seconds = dict(
        zip((row.round for row in history.rounds), accumulate(row.seconds for row in history.rounds), strict=True)
    )
    points = [item for item in history.tests if name in item.metrics and item.round in seconds]
    if len(points) < 2 or not max(seconds.values()):
        return None
    scale, unit = (100.0 if is_share(name) else 1.0), metric_unit(name)
    times, values = [seconds[item.round] for item in points], [scale * item.metrics[name] for item in points]
    drawn = line("federated", times, values, "@federated", symbol="circle")
    drawn["customdata"] = [item.round for item in points]
    drawn["hovertemplate"] = "%{x:.1f} s, round %{customdata}: %{y:.4g}<extra></extra>"
    label = metric_label(name) + (f", {unit}" if unit else "")
    return figure_of([drawn], "seconds of the rounds so far, on the coordinator's clock", label)


def staleness_plot(history: History) -> Figure | None:
    """Mean and largest age of the updates of each round; None where nothing stale was folded."""
    told = [
        (row.round, row.staleness_mean, row.staleness_max)
        for row in history.rounds
        if row.staleness_mean is not None and row.staleness_max is not None
    ]
    if not any(longest for *_, longest in told):
        return None
    rounds = [number for number, *_ in told]
    traces = [
        line("mean", rounds, [mean for _, mean, _ in told], "@federated", symbol="circle"),
        line("longest", rounds, [float(longest) for *_, longest in told], "@centralised", symbol="diamond", dash="dot"),
    ]
    figure = figure_of(traces, "round", "rounds between asking and folding", whole_x=True)
    figure["layout"]["yaxis"]["rangemode"] = "tozero"
    return figure
