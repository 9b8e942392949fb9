"""`fedpeft compare --target`: how soon each group reached it, on the screen."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.text import Text

from fedpeft.cli.look import plain_table
from fedpeft.report.targets import Target, TimeToTarget
from fedpeft.report.units import MISSING, metric_label, metric_text, seconds_text


def print_targets(out: Console, target: Target, times: Sequence[TimeToTarget]) -> None:
    """A line a group: seconds of the rounds to the target, and how many times as fast as the first."""
    if not times:
        return
    title = f"seconds of the rounds to {metric_label(target.metric)} {metric_text(target.metric, target.value)}"
    out.print(Text(title, style="bold"), soft_wrap=True)
    out.print()
    table = plain_table("", "reached", "mean", "95 % interval", f"as fast as {times[0].name}", "95 % interval")
    for one in times:
        ends = [one.mean.low, one.mean.high] if one.mean is not None else []
        told = " to ".join(seconds_text(max(0.0, end)) for end in ends if end is not None)
        fast, low, high = one.times or (None, None, None)
        table.add_row(
            one.name,
            f"{one.reached} of {len(one.seconds)}",
            MISSING if one.mean is None else seconds_text(one.mean.mean),
            told or MISSING,
            MISSING if fast is None else f"{fast:.2f}×",
            MISSING if low is None or high is None else f"{low:.2f} to {high:.2f}×",
        )
    out.print(table)
    out.print()
