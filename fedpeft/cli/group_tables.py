"""Groups of runs on the screen: one table a run file, mean and interval over its seeds."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.text import Text

from fedpeft.cli.look import plain_table
from fedpeft.report.seeds import ROWS, Group, differences
from fedpeft.report.units import MISSING, difference_text, metric_label, metric_number, metric_text, metric_unit


def print_groups(out: Console, groups: Sequence[Group]) -> None:
    """One table a group: rows are values, columns mean, interval and deviation."""
    for group in groups:
        n, name = len(group.seeds), group.metric
        seeds = ", ".join(map(str, group.seeds))
        out.print(
            Text.assemble((group.name, "bold"), f" — {n} {'seeds' if n > 1 else 'seed'}: {seeds}"), soft_wrap=True
        )
        out.print()
        table = plain_table(metric_label(name), "mean", "95 % interval", "deviation", "runs")
        for label, row in group.rows.items():
            apart = bool(ROWS[label][1])
            mean = difference_text(name, row.mean) if apart else metric_text(name, row.mean)
            ends = [metric_number(name, end).replace("-", "\N{MINUS SIGN}") for end in (row.low, row.high)]
            unit = " %" if metric_unit(name) == "%" and not apart else ""
            interval = MISSING if row.half is None else f"{ends[0]} to {ends[1]}{unit}"
            spread = MISSING if row.deviation is None else metric_number(name, row.deviation)
            table.add_row(Text(label, style="bold" if label == "federated" else ""), mean, interval, spread, str(row.n))
        out.print(table)
        out.print()
    _print_differences(out, groups)
    if any(len(group.seeds) > 1 for group in groups):
        out.print(
            "Intervals: Student's t over the runs, 95 %. Differences are taken run by run. "
            "They tell how much the seed matters, not how large the test set is.",
            style="dim",
        )


def _print_differences(out: Console, groups: Sequence[Group]) -> None:
    found = differences(groups)
    if not found:
        return
    metric = groups[0].metric
    out.print(Text.assemble((f"{metric_label(metric)} against {found[0].against}", "bold"), ", seed by seed"))
    out.print()
    table = plain_table("", "mean", "95 % interval", "seeds")
    for one in found:
        row = one.difference
        ends = [difference_text(metric, end) for end in (row.low, row.high) if end is not None]
        table.add_row(one.name, difference_text(metric, row.mean), " to ".join(ends) or MISSING, str(row.n))
    out.print(table)
    out.print()
