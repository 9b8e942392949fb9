"""One group of figures as bars with their quartiles; limits of the machine are lines, targets are marks on the bars."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from math import log10

from fedpeft.bench.figure import Figure, Goal
from fedpeft.bench.table import number_text
from fedpeft.report.figure import Figure as Drawn
from fedpeft.report.figure import figure_of

_LOG_FROM = 30.0
"""Largest over smallest value from which an axis is logarithmic: else the short bars are not to be seen."""

_COLORS = {"own": "@federated", "peer": "@before", "limit": "@rule"}
_DASHES = ("dash", "dot", "dashdot", "longdash")


def bars(group: Sequence[Figure]) -> Drawn | None:
    """The plot of figures that share a unit; None when there are not two to compare."""
    known = [figure for figure in group if figure.value is not None and figure.value > 0]
    if len(known) < 2 or len({figure.unit for figure in known}) > 1:
        return None
    lines = [figure for figure in known if figure.role == "limit"]
    shown = [figure for figure in known if figure.role != "limit"]
    if not shown:
        lines, shown = [], known
    marks = _marks(shown, group)
    values = [figure.value or 0.0 for figure in known] + list(marks["x"])
    middle = (min(values) * max(values)) ** 0.5
    log = max(values) > _LOG_FROM * min(values)
    title = f"{known[0].unit}, {known[0].better} is better{' (log)' if log else ''}"
    drawn = figure_of([_bars(shown, log), marks] if marks["x"] else [_bars(shown, log)], title, "")
    drawn["layout"] |= {"showlegend": False, "height": 130 + 40 * len(shown) + 22 * len(lines), "bargap": 0.35}
    drawn["layout"]["margin"] |= {"t": 16 + 22 * len(lines), "r": 24}
    drawn["layout"]["yaxis"] |= {"autorange": "reversed", "showgrid": False, "ticksuffix": "  "}
    drawn["layout"]["xaxis"] |= {"type": "log"} if log else {"range": [0, 1.18 * max(values)]}
    if log:
        drawn["layout"]["xaxis"]["range"] = [log10(min(values) / 2), log10(max(values) * 3)]
    drawn["layout"]["shapes"], drawn["layout"]["annotations"] = [], []
    for place, limit in enumerate(lines):
        _add_line(drawn, limit, place, log=log, right=(limit.value or 0.0) > (middle if log else max(values) / 2))
    return drawn


def _bars(shown: Sequence[Figure], log: bool) -> Drawn:
    """Horizontal bars, so that long names can be read."""
    quartiles = [figure.quartiles or (figure.value or 0.0,) * 2 for figure in shown]
    return {
        "type": "bar",
        "orientation": "h",
        "y": [escape(figure.name, quote=False) for figure in shown],
        "x": [figure.value for figure in shown],
        "text": [f" {number_text(figure.value or 0.0)} {escape(figure.unit, quote=False)} " for figure in shown],
        "textposition": "auto",
        "insidetextanchor": "start",
        "marker": {"color": [_COLORS[figure.role] for figure in shown], "line": {"width": 0}},
        "error_x": {
            "type": "data",
            "symmetric": False,
            "array": [third - (figure.value or 0.0) for figure, (_, third) in zip(shown, quartiles, strict=True)],
            "arrayminus": [(figure.value or 0.0) - first for figure, (first, _) in zip(shown, quartiles, strict=True)],
            "color": "@ink",
            "thickness": 1,
            "width": 3,
        },
        "hovertemplate": "%{y}: %{x:.4g}<extra></extra>",
    }


def target_value(figure: Figure, goal: Goal, group: Sequence[Figure]) -> float | None:
    """Where a figure would just reach its goal, in its own unit; None without a target, or without its contender."""
    if goal.at is None or not goal.against:
        return goal.at
    other = next((item.value for item in group if item.name == goal.against), None)
    if other is None:
        return None
    return other / goal.at if figure.better == "lower" else other * goal.at


def _marks(shown: Sequence[Figure], group: Sequence[Figure]) -> Drawn:
    """An upright stroke on each bar that has a target."""
    places = [
        (at, figure.name) for figure in shown for goal in figure.goals if (at := target_value(figure, goal, group))
    ]
    return {
        "type": "scatter",
        "mode": "markers",
        "x": [at for at, _ in places],
        "y": [escape(name, quote=False) for _, name in places],
        "marker": {"symbol": "line-ns-open", "size": 26, "color": "@ink", "line": {"width": 3, "color": "@ink"}},
        "hovertemplate": "target: %{x:.4g}<extra></extra>",
    }


def _add_line(drawn: Drawn, limit: Figure, place: int, *, log: bool, right: bool) -> None:

    value = limit.value or 0.0
    drawn["layout"]["shapes"].append(
        {
            "type": "line",
            "yref": "paper",
            "x0": value,
            "x1": value,
            "y0": 0,
            "y1": 1,
            "line": {"color": "@centralised", "width": 2, "dash": _DASHES[place % len(_DASHES)]},
        }
    )
    drawn["layout"]["annotations"].append(
        {
            "x": log10(value) if log else value,  # an annotation, unlike a shape, wants the exponent on a log axis
            "y": 1,
            "yref": "paper",
            "yanchor": "bottom",
            "yshift": 20 * place,
            "xanchor": "right" if right else "left",
            "showarrow": False,
            "text": f"{escape(limit.name, quote=False)}: {number_text(value)} {escape(limit.unit, quote=False)}",
            "font": {"color": "@centralised", "size": 12},
        }
    )
