"""How tables look on the screen: one style for all."""

from __future__ import annotations

from rich import box
from rich.table import Table


def plain_table(*head: str) -> Table:
    """A table with a line under its head; the first column is text, the others are set right and never broken."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="dim", show_edge=False, padding=(0, 1))
    for place, name in enumerate(head):
        table.add_column(name, justify="left" if place == 0 else "right", no_wrap=place > 0)
    return table
