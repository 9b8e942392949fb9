"""Plots of what a scheduler did: arms over the rounds, regret, and how long rounds took."""

from __future__ import annotations

import html
from collections.abc import Mapping
from statistics import median

from fedpeft.report.figure import Figure, figure_of, line
from fedpeft.report.plots import HUES, SYMBOLS
from fedpeft.report.scheduling import ScheduleHistory
from fedpeft.report.summary import OracleArm

_NAMED_ARMS = 30  # with more, names would overlap


def arms_plot(history: ScheduleHistory) -> Figure | None:
    """Which arm each client got, round by round: a mark a choice, a colour and symbol a device class."""
    if not history.chosen:
        return None
    places = sorted({one.place for one in history.chosen})
    row = {place: number for number, place in enumerate(places)}
    traces: list[Figure] = []
    devices = history.devices
    for number, device in enumerate(devices):
        own = [one for one in history.chosen if one.device == device]
        name = html.escape(device, quote=False)
        shift = 0.5 * ((number + 0.5) / len(devices) - 0.5)
        traces.append(
            {
                "type": "scatter",
                "mode": "markers",
                "name": name,
                "x": [one.round for one in own],
                "y": [row[one.place] + shift for one in own],
                "text": [f"{html.escape(one.client, quote=False)}, round {one.round}: {one.arm}" for one in own],
                "marker": {"color": HUES[number % len(HUES)], "symbol": SYMBOLS[number % len(SYMBOLS)], "size": 7}
                | {"opacity": 0.75},
                "hovertemplate": "%{text}<extra>" + name + "</extra>",
            }
        )
    figure = figure_of(traces, "round", "", whole_x=True)
    named = len(places) <= _NAMED_ARMS
    figure["layout"]["yaxis"] |= {
        "tickvals": list(range(len(places))) if named else [],
        "ticktext": [html.escape(history.names[place], quote=False) for place in places] if named else [],
        "range": [-0.7, len(places) - 0.3],
        "title": {"text": "" if named else f"{len(places)} arms, in the order of the grid"},
    }
    figure["layout"]["height"] = 160 + (22 * len(places) if named else 480)
    return figure


def regret_plot(history: ScheduleHistory, oracle: Mapping[str, OracleArm]) -> Figure | None:
    """Reward missed so far, against the arms that were best in hindsight and against the oracle's."""
    best = {device: place for device in history.devices if (place := history.best(device)) is not None}
    traces = []
    for name, arms, color, symbol, dash in (
        ("best arms in hindsight", best, "@federated", "circle", "solid"),
        ("the oracle's arms", {device: arm.place for device, arm in oracle.items()}, "@centralised", "diamond", "dot"),
    ):
        points = history.regret(arms)
        if points:
            x, y = [number for number, _ in points], [value for _, value in points]
            traces.append(line(name, x, y, color, symbol=symbol, dash=dash))
    return figure_of(traces, "round", "reward missed so far", whole_x=True) if traces else None


def completion_plot(history: ScheduleHistory, deadline_s: float) -> Figure | None:
    """Seconds of the median and of the slowest client of each round.

    Args:
        history: of the run.
        deadline_s: `round.deadline_s`, which a client that was given up counts with.
    """
    times: dict[int, list[float]] = {}
    for one in history.waited:
        times.setdefault(one.round, []).append(deadline_s if one.seconds is None else one.seconds)
    if not any(seconds for own in times.values() for seconds in own):
        return None
    rounds = list(times)
    slowest, middle = [max(times[n]) for n in rounds], [median(times[n]) for n in rounds]
    traces = [
        line("slowest", rounds, slowest, "@centralised", symbol="diamond", dash="dot"),
        line("median", rounds, middle, "@federated", symbol="circle"),
    ]
    figure = figure_of(traces, "round", "seconds a client", whole_x=True)
    figure["layout"]["yaxis"]["rangemode"] = "tozero"
    return figure
