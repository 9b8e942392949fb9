"""A group of figures of two measures each, e.g. what is lost at so many bytes: points, and limits as a curve."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from fedpeft.bench.figure import Figure, Role
from fedpeft.report.figure import Figure as Drawn
from fedpeft.report.figure import figure_of

_COLORS: dict[Role, str] = {"own": "@federated", "peer": "@before"}


def points(group: Sequence[Figure]) -> Drawn | None:
    """The plot of figures that have a second measure, both axes logarithmic; None where fewer than two have one.

    Less is better of both. Points that no other beats in both bear their names; the others tell them under the mouse.
    """
    known = [(figure.across, figure.value, figure) for figure in group if figure.across and figure.value]
    shown = [(across[1], value, figure) for across, value, figure in known if across[1] > 0 and value > 0]
    if len(shown) < 2:
        return None
    traces: list[Drawn] = []
    for role in dict.fromkeys(figure.role for _, _, figure in shown):
        own = sorted((x, y, escape(figure.name, quote=False)) for x, y, figure in shown if figure.role == role)
        xs, ys, names = ([one[place] for one in own] for place in range(3))
        trace: Drawn = {"type": "scatter", "x": xs, "y": ys, "hovertemplate": "%{hovertext}: %{x:.3g}, %{y:.3g}"}
        trace |= {"hovertext": names, "name": {"own": "ours", "peer": "theirs", "limit": "bound"}[role]}
        if role == "limit":
            traces.append(trace | {"mode": "lines", "line": {"color": "@centralised", "width": 2, "dash": "dash"}})
            continue
        best = [
            not any(a <= x and b <= y and (a, b) != (x, y) for a, b, other in shown if other.role != "limit")
            for x, y, _ in own
        ]
        told = [name if unbeaten else "" for name, unbeaten in zip(names, best, strict=True)]
        traces.append(
            trace
            | {"mode": "markers+text", "text": told, "textposition": "top right", "textfont": {"size": 10}}
            | {"marker": {"color": _COLORS[role], "size": 8}}
        )
    across, _, first = known[0]
    assert across is not None
    drawn = figure_of(traces, f"{across[0]} (log)", f"{first.unit} (log)")
    drawn["layout"]["xaxis"] |= {"type": "log"}
    drawn["layout"]["yaxis"] |= {"type": "log"}
    drawn["layout"]["height"] = 480
    return drawn
