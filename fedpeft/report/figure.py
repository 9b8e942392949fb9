"""What all figures of the report share: lines, axes and legend as plain Plotly data."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

Figure: TypeAlias = dict[str, Any]
"""A Plotly figure or trace as JSON values."""


def line(
    name: str, x: Sequence[float], y: Sequence[float], color: str, *, symbol: str | None = None, dash: str = "solid"
) -> Figure:
    """A line, with marks when it has a symbol; `color` is `@` and the name of a variable of page.css."""
    trace: Figure = {
        "type": "scatter",
        "mode": "lines+markers" if symbol else "lines",
        "name": name,
        "x": list(x),
        "y": list(y),
        "line": {"color": color, "width": 2, "dash": dash},
    }
    if symbol:
        trace["marker"] = {"symbol": symbol, "color": color, "size": 7}
    return trace


def figure_of(traces: list[Figure], x: str, y: str, *, whole_x: bool = False) -> Figure:
    """Axes and legend as all plots have them; page.js adds fonts and colours."""
    x_axis: Figure = {"title": {"text": x, "standoff": 8}, "automargin": True}
    if whole_x:
        x_axis |= {"tickformat": "d", "tick0": 0}
        numbers = [value for trace in traces for value in trace["x"]]
        if numbers and max(numbers) - min(numbers) <= 12:
            x_axis["dtick"] = 1
    return {
        "data": traces,
        "layout": {
            "xaxis": x_axis,
            "yaxis": {"title": {"text": y, "standoff": 12}, "automargin": True},
            "legend": {"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom"},
            "margin": {"l": 8, "r": 12, "t": 48, "b": 8},
            "hovermode": "closest",
            "height": 340,
        },
    }
