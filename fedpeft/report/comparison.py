"""Several runs on one HTML page: curves of each metric over rounds, bytes, seconds and passes, and a table.

groups (`fedpeft.report.seeds`) ──> a line a group, its mean over seeds, with the 95 % interval as bars
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

from fedpeft.journal.headline import is_share
from fedpeft.report.figure import Figure, figure_of, line
from fedpeft.report.mixing_costs import CAPTION, WORDS, mixing_cost
from fedpeft.report.named_file import write_named
from fedpeft.report.offline import offline_page, plot_box
from fedpeft.report.record import CurvePoint, RunRecord
from fedpeft.report.seeds import Group, differences
from fedpeft.report.statistics import MeanInterval, mean_interval
from fedpeft.report.units import (
    MISSING,
    bytes_text,
    difference_interval,
    metric_label,
    metric_number,
    metric_text,
    metric_unit,
)

COLORS = ("@federated", "@centralised", "@fourth", "@fifth", "@sixth", "@before")
FAR_APART = 30.0
"""Where one run has so many times as much of something as another, it is drawn on a logarithmic axis."""

SYMBOLS = ("circle", "square", "diamond", "triangle-up", "x", "cross")
DASHES = ("solid", "dash", "dot", "dashdot")


@dataclass(frozen=True, slots=True)
class Point:
    """A round in which every run of a group was evaluated."""

    round: int
    uplink: float  # bytes of all clients' frames up to it, mean over the runs
    seconds: float  # of the rounds up to it, on the coordinator's clock, mean over the runs
    passes: float  # of examples through the model up to it, as `RunPlan.step_passes` counts, mean over the runs
    value: MeanInterval


@dataclass(frozen=True, slots=True)
class Axis:
    """What a metric is drawn over."""

    name: str
    title: str
    caption: str
    of: Callable[[Point], float]


AXES = (
    Axis("rounds", "round", "on the test set, over the rounds", lambda point: point.round),
    Axis(
        "bytes",
        "MB sent by the clients",
        "over what all clients had sent, bytes of frames",
        lambda point: point.uplink / 1e6,
    ),
    Axis(
        "seconds",
        "seconds of the rounds so far, on the coordinator's clock",
        "over the time of the rounds; a simulation's clock is virtual",
        lambda point: point.seconds,
    ),
    Axis(
        "passes",
        "thousand passes of an example through the model",
        "over what all clients had computed: a pass backward counts as one, or as two where all weights are trained",
        lambda point: point.passes / 1e3,
    ),
)


def write_comparison(path: Path, groups: Sequence[Group]) -> Path:
    """Write the page, about 5 MB, most of it Plotly's own script.

    Args:
        path: of the file.
        groups: finished runs.

    Returns:
        `path`.

    Raises:
        DataError: it cannot be written.
    """
    drawn: dict[str, Figure] = {}
    body = "\n".join(_body(groups, drawn))
    write_named(path, offline_page("Comparison", body, drawn).encode())
    return path


def curve(runs: Sequence[RunRecord], metric: str) -> list[Point]:
    """A metric of the coordinator's test set over the rounds, of runs that differ in their seed only."""
    known = [{item.round: item for item in run.tests if metric in item.metrics} for run in runs]
    shared = set.intersection(*map(set, known)) if known else set()
    return [_point([one[number] for one in known], metric) for number in sorted(shared)]


def _point(tests: Sequence[CurvePoint], metric: str) -> Point:
    row = mean_interval([item.metrics[metric] for item in tests])
    assert row is not None
    uplink, seconds, passes = (
        sum(values) / len(tests) for values in zip(*((t.uplink, t.seconds, t.passes) for t in tests), strict=True)
    )
    return Point(tests[0].round, uplink, seconds, passes, row)


def _body(groups: Sequence[Group], drawn: dict[str, Figure]) -> Iterator[str]:
    count = sum(len(group.records) for group in groups)
    yield f'<header><h1>Comparison</h1><p class="soft">{count} runs of {len(groups)} run files. Lines are means over '
    yield "seeds, bars their 95 % intervals (Student's t): how much the seed matters, not how large the test set is."
    yield "</p></header>"
    tests = (item for group in groups for run in group.records for item in run.tests)
    metrics = dict.fromkeys(name for item in tests for name in item.metrics)
    for place, metric in enumerate(metrics):
        curves = [(group, points) for group in groups if (points := curve(group.records, metric))]
        if not curves:
            continue
        label = metric_label(metric)
        yield f'<section><h2>{escape(label[:1].upper() + label[1:])}</h2><div class="pair">'
        for axis in AXES:
            if axis.name == "seconds" and not any(point.seconds for _, points in curves for point in points):
                continue  # a clock on which nothing took any time
            if axis.name == "passes" and not all(any(point.passes for point in points) for _, points in curves):
                continue  # a run of an older version, which did not tell
            box = f"metric{place}-{axis.name}"  # a metric's name is its task's, and may be any text
            drawn[box] = plot = _plot(curves, metric, axis)
            yield plot_box(box, plot, axis.caption)
        yield "</div></section>"
    yield from _mixing(groups, drawn)
    yield from _table(groups)


def _plot(curves: Sequence[tuple[Group, list[Point]]], metric: str, axis: Axis) -> Figure:
    scale, unit, traces = (100.0 if is_share(metric) else 1.0), metric_unit(metric), []
    ends = [axis.of(points[-1]) for _, points in curves]
    apart = axis.name != "rounds" and min(ends) > 0 and max(ends) > FAR_APART * min(ends)
    for place, (group, every) in enumerate(curves):
        points = [point for point in every if axis.of(point) > 0 or not apart]  # a logarithm has no place for 0
        x = [axis.of(point) for point in points]
        y = [scale * point.value.mean for point in points]
        trace = _line(place, group.name, x, y, symbol=SYMBOLS[place % len(SYMBOLS)])
        halves = [point.value.half for point in points]
        if None not in halves:
            bars = [scale * half for half in halves if half is not None]
            own = trace["line"]["color"]
            trace["error_y"] = {"type": "data", "array": bars, "color": own, "thickness": 1, "width": 3}
        traces.append(trace)
    y_title = f"{metric_label(metric)}, {unit}" if unit else metric_label(metric)
    plot = figure_of(traces, axis.title, escape(y_title, quote=False), whole_x=axis.name == "rounds")
    if apart:
        plot["layout"]["xaxis"]["type"] = "log"
    return plot


def _line(place: int, name: str, x: Sequence[float], y: Sequence[float], symbol: str | None = None) -> Figure:
    """The group at that place, in its own colour and dash."""
    color, dash = COLORS[place % len(COLORS)], DASHES[place // len(COLORS) % len(DASHES)]
    return line(escape(name, quote=False), x, y, color, symbol=symbol, dash=dash)


def _mixing(groups: Sequence[Group], drawn: dict[str, Figure]) -> Iterator[str]:
    costs = [(place, cost) for place, group in enumerate(groups) if (cost := mixing_cost(group)) is not None]
    if not costs:
        return
    yield f'<section><h2>What mixing cost</h2><p class="soft">{CAPTION[:1].upper()}{CAPTION[1:]}.</p><div class="pair">'
    for figure, words in WORDS.items():
        traces = []
        for place, cost in costs:
            shares = cost.figures[figure]
            traces.append(_line(place, cost.name, range(1, len(shares) + 1), [100 * share for share in shares]))
        drawn[figure] = plot = figure_of(traces, "round", f"{words}, %", whole_x=True)
        yield plot_box(figure, plot, f"{words}, mean over seeds")
    yield "</div></section>"


def _table(groups: Sequence[Group]) -> Iterator[str]:
    against = {one.name: one for one in differences(groups)}
    yield '<section><h2>At the end</h2><div class="scroll"><table><thead><tr><th>runs</th><th>seeds</th>'
    yield '<th>metric</th><th class="number">mean</th><th class="number">95 % interval</th>'
    first = escape(groups[0].name) if groups else ""
    yield f'<th class="number">against {first}</th><th class="number">sent by all clients</th></tr></thead><tbody>'
    for group in groups:
        row, other = group.rows.get("federated"), against.get(group.name)
        cells = [group.name, ", ".join(map(str, group.seeds)), metric_label(group.metric)]
        numbers = [
            metric_text(group.metric, row.mean if row else None),
            _ends(group.metric, row),
            MISSING if other is None else _difference(group.metric, other.difference),
            bytes_text(group.uplink),
        ]
        yield "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in cells)
        yield "".join(f'<td class="number">{escape(cell)}</td>' for cell in numbers) + "</tr>"
    yield "</tbody></table></div></section>"


def _ends(metric: str, row: MeanInterval | None) -> str:
    if row is None or row.half is None:
        return MISSING
    unit = " %" if is_share(metric) else ""
    return f"{metric_number(metric, row.low)} to {metric_number(metric, row.high)}{unit}"


def _difference(metric: str, row: MeanInterval) -> str:
    return difference_interval(metric, row.mean, row.low, row.high) + (" points" if is_share(metric) else "")
