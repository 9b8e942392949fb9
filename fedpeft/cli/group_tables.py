"""Groups of runs on the screen: one table a run file, mean and interval over its seeds."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.text import Text

from fedpeft.cli.look import plain_table
from fedpeft.journal.headline import is_share
from fedpeft.report.seeds import ROWS, Group, differences
from fedpeft.report.units import (
    MISSING,
    bytes_text,
    difference_interval,
    difference_text,
    metric_label,
    metric_number,
    metric_text,
    metric_unit,
)


def print_groups(out: Console, groups: Sequence[Group]) -> None:
    """One table a group: rows are values, columns mean, interval and deviation."""
    for group in groups:
        n, name = len(group.seeds), group.metric
        seeds = ", ".join(map(str, group.seeds))
        title = f" — {n} {'seeds' if n > 1 else 'seed'}: {seeds}"
        if group.repeats:
            title += f"; {group.repeats} more run{'s' * (group.repeats > 1)} of these seeds left out"
        out.print(Text.assemble((group.name, "bold"), title), soft_wrap=True)
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
            "Intervals: Student's t over the runs, 95 %. Differences are taken seed by seed. "
            "They tell how much the seed matters, not how large the test set is; bytes are the mean of the runs.",
            style="dim",
        )


def _print_differences(out: Console, groups: Sequence[Group]) -> None:
    """Every group in a line: what it came to, what that is against the first, what its clients sent."""
    found = {one.name: one for one in differences(groups)}
    if not found:
        return
    first, metric = groups[0], groups[0].metric
    title = f", differences from {first.name} seed by seed" + (" in points" if is_share(metric) else "")
    out.print(Text.assemble(("side by side", "bold"), title))
    out.print()
    table = plain_table("", metric_label(metric), "difference", "sent up", "seeds")
    for group in [first, *(group for group in groups[1:] if group.name in found)]:
        own, other = group.rows.get("federated"), found.get(group.name) if group is not first else None
        row = other.difference if other else None
        table.add_row(
            group.name,
            metric_text(metric, own.mean if own else None),
            difference_interval(metric, row.mean, row.low, row.high) if row else MISSING,
            bytes_text(group.uplink),
            str(len(other.seeds) if other else len(group.seeds)),
        )
    out.print(table)
    out.print()
