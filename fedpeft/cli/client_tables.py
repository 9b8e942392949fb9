"""The clients' own evaluations on the screen: what their mean hides. Fits in 80 columns."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from fedpeft.cli.look import plain_table
from fedpeft.journal import Spread
from fedpeft.report.summary import RunResult
from fedpeft.report.units import count_text, metric_label, metric_number, metric_unit

CONSTANTS = {"constant.held_out": "one answer"}
"""What a client reaches at most that always answers one label; the report has the other constant too."""

STAGES = {"before": "zero-shot", "after": "federated", "tuned": "+ own steps"}


def clients_table(result: RunResult) -> RenderableType | None:
    """Mean per-client metric and its spread, one line a stage; None where no client evaluated.

    "worst" is the mean of the worst tenth of the clients.
    """
    name = result.metric
    rows = [(STAGES[stage], found[name]) for stage, found in result.clients.items() if name in found]
    if not rows:
        return None
    latest = result.clients.get("after") or result.clients.get("before") or {}
    rows += [(label, latest[constant]) for constant, label in CONSTANTS.items() if constant in latest]
    unit = metric_unit(name)
    most = max(spread.clients for _, spread in rows)
    title = f"mean per-client {metric_label(name)}{', ' + unit if unit else ''}, on what each of {count_text(most)} "
    table = plain_table("", "mean", "weighted", "worst", "min", "25 %", "median", "75 %", "max")
    for label, spread in rows:
        _add(table, label, name, spread)
    return Group(Text(title + "clients holds out"), "", table)


def _add(table: Table, label: str, name: str, spread: Spread) -> None:
    style = "bold" if label == STAGES["after"] else "dim" if label in CONSTANTS.values() else ""
    table.add_row(Text(label, style=style), *(metric_number(name, value) for value in spread.row()))
