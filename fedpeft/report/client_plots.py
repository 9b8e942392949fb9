"""The clients one by one: who gained from the run, and what steps of their own would still bring."""

from __future__ import annotations

import html

from fedpeft.journal.headline import is_share
from fedpeft.report.figure import Figure, figure_of
from fedpeft.report.summary import RunResult
from fedpeft.report.units import metric_label, metric_unit

_LABELLED_CLIENTS = 40  # with more, names would overlap


def clients_plot(result: RunResult) -> Figure | None:
    """Each client's metric on its own held-out examples, sorted: who gained, who was left behind."""
    before, after, tuned = (result.client_values.get(stage, {}) for stage in ("before", "after", "tuned"))
    clients = sorted({*before, *after}, key=lambda client: (after.get(client, before.get(client, 0.0)), client))
    name_of, scale = result.metric, 100.0 if is_share(result.metric) else 1.0
    if not clients:
        return None
    unit = f" {metric_unit(name_of)}".rstrip()
    axis = f",{unit}" if unit else ""
    links_x: list[float | None] = []
    links_y: list[int | None] = []
    for place, client in enumerate(clients):
        if client in before and client in after:
            links_x += [scale * before[client], scale * after[client], None]
            links_y += [place, place, None]
    traces: list[Figure] = [
        {
            "type": "scatter",
            "mode": "lines",
            "x": links_x,
            "y": links_y,
            "line": {"color": "@rule", "width": 2},
            "hoverinfo": "skip",
            "showlegend": False,
        }
    ]
    for name, known, color, symbol in (
        ("before (zero-shot)", before, "@before", "circle-open"),
        ("after", after, "@federated", "circle"),
        ("after own steps", tuned, "@centralised", "diamond-open"),
    ):
        if not known:
            continue
        places = [place for place, client in enumerate(clients) if client in known]
        traces.append(
            {
                "type": "scatter",
                "mode": "markers",
                "name": name,
                "x": [scale * known[clients[place]] for place in places],
                "y": places,
                "text": [html.escape(clients[place], quote=False) for place in places],
                "marker": {"color": color, "symbol": symbol, "size": 9, "line": {"width": 2, "color": color}},
                "hovertemplate": "%{text}: %{x:.4~g}" + unit + "<extra>" + name + "</extra>",
            }
        )
    figure = figure_of(traces, f"{metric_label(name_of)} on the client's own held-out examples{axis}", "")
    labelled = len(clients) <= _LABELLED_CLIENTS
    figure["layout"]["yaxis"] |= {
        "tickvals": list(range(len(clients))) if labelled else [],
        "ticktext": [html.escape(_short(client), quote=False) for client in clients] if labelled else [],
        "range": [-0.7, len(clients) - 0.3],
        "showgrid": False,
        "title": {"text": "" if labelled else f"{len(clients)} clients, sorted"},
    }
    figure["layout"]["height"] = 120 + (20 * len(clients) if labelled else 560)
    return figure


def _short(name: str) -> str:
    return name if len(name) <= 28 else name[:27] + "…"
