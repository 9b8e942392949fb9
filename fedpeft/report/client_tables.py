"""The clients' own evaluations as a table of the report: a line a metric and stage, a column a figure of its spread."""

from __future__ import annotations

from fedpeft.report.sections import table
from fedpeft.report.summary import RunResult
from fedpeft.report.units import count_text, metric_label, metric_text

STAGES = {"before": "zero-shot", "after": "federated", "tuned": "own steps"}
CONSTANTS = {"constant.held_out": "one answer, best", "constant.train": "one answer, as trained"}

_ABOUT = (
    "Each client judges the adapter on examples that it holds out itself. Mean: each client counts the same; by "
    "examples: each example does. Worst: the mean of the worst tenth of the clients."
)
_ABOUT_CONSTANTS = (
    " One answer: the accuracy of always giving the most frequent label, of the client's held-out examples or of those "
    "that it trains on."
)


def spread_table(result: RunResult) -> str:
    """All metrics over the clients, and what always giving one answer would reach; empty where none evaluated."""
    latest = "after" if "after" in result.clients else "before"
    names = dict.fromkeys(name for found in result.clients.values() for name in found)
    rows = []
    for name in sorted(names, key=lambda name: (name in CONSTANTS, name != result.metric)):
        for stage, label in STAGES.items():
            spread = result.clients.get(stage, {}).get(name)
            if spread is None or (name in CONSTANTS and stage != latest):
                continue
            unit = "accuracy" if name in CONSTANTS else name
            what = CONSTANTS.get(name, f"{metric_label(name)}, {label}")
            rows.append([what, count_text(spread.clients), *(metric_text(unit, value) for value in spread.row())])
    if not rows:
        return ""
    head = ["per client", "clients", "mean", "by examples", "worst", "min", "25 %", "median", "75 %", "max"]
    about = _ABOUT + (_ABOUT_CONSTANTS if names.keys() & CONSTANTS.keys() else "")
    return f'<p class="soft">{about}</p>' + table(head, rows, numbers=set(range(1, len(head))))
