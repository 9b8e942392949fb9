"""What mixing LoRA factors cost in each group of runs, on the screen."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.text import Text

from fedpeft.cli.look import plain_table
from fedpeft.report.mixing_costs import CAPTION, WORDS, MixingCost
from fedpeft.report.units import percent_text

HEADS = ("off", "carried", "lost")


def print_mixing(out: Console, costs: Sequence[MixingCost]) -> None:
    """A line a group: each figure's mean over the rounds, and that of the last."""
    if not costs:
        return
    out.print(Text.assemble(("what mixing cost", "bold"), f", {CAPTION}"), soft_wrap=True)
    out.print(f"{', '.join(WORDS.values())}: the mean of all rounds, and the last", style="dim", soft_wrap=True)
    out.print()
    table = plain_table("", *(head for name in HEADS for head in (name, "last")), "seeds")
    for one in costs:
        cells = [cell for name in WORDS for cell in (one.mean(name), one.figures[name][-1])]
        table.add_row(one.name, *map(percent_text, cells), str(len(one.seeds)))
    out.print(table)
    out.print()
