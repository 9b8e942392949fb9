"""The plots of the report, each a function from a run's history to a Plotly figure as plain data, or None without data.

Colours are names of the page's own variables (`@up`), so that one figure serves the light and the dark page; page.js
puts in their values. The palette is Okabe and Ito's, and no plot tells by colour alone: series differ in dash, symbol
or fill too.
"""

from __future__ import annotations

import html
from collections import defaultdict
from collections.abc import Callable, Sequence
from itertools import accumulate
from statistics import median

from fedpeft.report.figure import Figure, figure_of, line
from fedpeft.report.history import History, Reply, RoundRow
from fedpeft.report.summary import BYTE_KEYS

SYMBOLS = ("circle", "diamond", "square", "triangle-up", "x", "star")
HUES = ("@federated", "@centralised", "@before", "@fourth", "@fifth", "@sixth")


def loss_plot(history: History) -> Figure | None:
    """Test loss over rounds, and the clients' own loss at the first and at the last step of each round."""
    points = [(item.round, item.loss) for item in history.tests if item.loss is not None]
    traces = []
    if points:
        traces.append(line("test", [x for x, _ in points], [y for _, y in points], "@federated", symbol="circle"))
    for name, pick, symbol, dash in (
        ("clients, first step", lambda reply: reply.loss_first, "triangle-down-open", "dot"),
        ("clients, last step", lambda reply: reply.loss_last, "triangle-up", "dash"),
    ):
        series = _weighted_by_round(history.replies, pick)
        if series:
            xs, ys = [x for x, _ in series], [y for _, y in series]
            traces.append(line(name, xs, ys, "@centralised", symbol=symbol, dash=dash))
    return figure_of(traces, "round", "loss, nats", whole_x=True) if traces else None


def bytes_plot(history: History) -> Figure | None:
    """Bytes of each round: bars are frames, rings are the same messages in Flower's wire format."""
    rows = _moving(history)
    if not rows:
        return None
    traces: list[Figure] = []
    for direction in ("up", "down"):
        color = f"@{direction}"
        traces.append(
            {
                "type": "bar",
                "name": f"{direction}, frames",
                "x": [row.round for row in rows],
                "y": [row.moved[f"frame_{direction}"] / 1e6 for row in rows],
                "offsetgroup": direction,
                "marker": {
                    "color": color,
                    "line": {"width": 0},
                    "pattern": {
                        "shape": "/" if direction == "down" else "",
                        "fgcolor": "@paper",
                        "fillmode": "overlay",
                        "size": 6,
                        "solidity": 0.2,
                    },
                },
                "hovertemplate": "round %{x}: %{y:.3f} MB<extra>" + f"{direction}, frames</extra>",
            }
        )
    for direction in ("up", "down"):
        shift = -0.2 if direction == "up" else 0.2
        traces.append(
            {
                "type": "scatter",
                "mode": "markers",
                "name": f"{direction}, wire",
                "x": [row.round + shift for row in rows],
                "y": [row.moved[f"wire_{direction}"] / 1e6 for row in rows],
                "customdata": [row.round for row in rows],
                "marker": {
                    "symbol": "circle-open" if direction == "up" else "diamond-open",
                    "color": "@ink",
                    "size": 7,
                },
                "hovertemplate": "round %{customdata}: %{y:.3f} MB<extra>" + f"{direction}, wire</extra>",
            }
        )
    figure = figure_of(traces, "round", "MB a round", whole_x=True)
    figure["layout"] |= {"barmode": "group", "bargap": 0.2}
    figure["layout"]["yaxis"]["rangemode"] = "tozero"
    return figure


def cumulative_plot(history: History) -> Figure | None:
    """Bytes so far: frames solid, Flower's wire dashed."""
    rows = _moving(history)
    if not rows:
        return None
    rounds = [0, *(row.round for row in rows)]
    names = {"up": "up", "down": "down", "frame": "frames", "wire": "wire"}
    traces = []
    for key in BYTE_KEYS:
        level, direction = key.split("_")
        sums = [0.0, *accumulate(row.moved[key] / 1e6 for row in rows)]
        trace = line(
            f"{names[direction]}, {names[level]}",
            rounds,
            sums,
            f"@{direction}",
            symbol="circle" if direction == "up" else "diamond",
            dash="solid" if level == "frame" else "dot",
        )
        traces.append(trace)
    figure = figure_of(traces, "round", "MB so far", whole_x=True)
    figure["layout"]["yaxis"]["rangemode"] = "tozero"
    return figure


def devices_plot(history: History) -> Figure | None:
    """Seconds from asking to the reply, each reply a mark, each class's median a line."""
    classes = sorted({reply.device for reply in history.replies})
    replies = [reply for reply in history.replies if reply.seconds > 0]
    if not replies:
        return None
    traces: list[Figure] = []
    by_class: defaultdict[str, list[Reply]] = defaultdict(list)
    for reply in replies:
        by_class[reply.device].append(reply)
    for place, device in enumerate(classes):
        own = by_class[device]
        color, symbol = HUES[place % len(HUES)], SYMBOLS[place % len(SYMBOLS)]
        shift = 0.5 * ((place + 0.5) / len(classes) - 0.5)
        group = f"class{place}"
        traces.append(
            {
                "type": "scatter",
                "mode": "markers",
                "name": html.escape(device, quote=False),
                "legendgroup": group,
                "x": [reply.round + shift for reply in own],
                "y": [reply.seconds for reply in own],
                "text": [f"{html.escape(reply.client, quote=False)}, round {reply.round}" for reply in own],
                "marker": {"color": color, "symbol": symbol, "size": 7, "opacity": 0.75},
                "hovertemplate": "%{text}: %{y:.2f} s<extra>" + html.escape(device, quote=False) + "</extra>",
            }
        )
        by_round: defaultdict[int, list[float]] = defaultdict(list)
        for reply in own:
            by_round[reply.round].append(reply.seconds)
        rounds = sorted(by_round)
        medians = line(
            html.escape(device, quote=False),
            [number + shift for number in rounds],
            [median(by_round[number]) for number in rounds],
            color,
        )
        traces.append(medians | {"legendgroup": group, "showlegend": False, "hoverinfo": "skip", "opacity": 0.6})
    figure = figure_of(traces, "round", "seconds a reply", whole_x=True)
    times = [reply.seconds for reply in replies]
    if max(times) > 20 * min(times):
        figure["layout"]["yaxis"] |= {"type": "log", "title": {"text": "seconds a reply (log)"}}
    else:
        figure["layout"]["yaxis"]["rangemode"] = "tozero"
    return figure


def _weighted_by_round(replies: Sequence[Reply], pick: Callable[[Reply], float | None]) -> list[tuple[int, float]]:
    """Mean over each round's replies, weighted by their examples; rounds without a value are left out."""
    sums: dict[int, tuple[float, float]] = {}
    for reply in replies:
        value = pick(reply)
        if value is not None and reply.weight > 0:
            total, weight = sums.get(reply.round, (0.0, 0.0))
            sums[reply.round] = (total + reply.weight * value, weight + reply.weight)
    return [(number, total / weight) for number, (total, weight) in sorted(sums.items())]


def _moving(history: History) -> list[RoundRow]:
    """Commits in which something moved: round 0 is committed before anyone is met."""
    return [row for row in history.rounds if any(row.moved.values())]
