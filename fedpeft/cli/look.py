"""How tables look on the screen: one style for all."""

from __future__ import annotations

from rich import box
from rich.console import Console, ConsoleOptions, RenderResult
from rich.measure import Measurement
from rich.table import Table


class PlainTable(Table):
    """A table that is never narrower than its words and numbers: on a narrow terminal its lines go on in the next."""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Rich's own; it would take the first column away where the others leave no room."""
        endless = options.update(max_width=_ENDLESS)
        widths = [Measurement.get(console, endless, cell) for cell in self.columns[0].cells]
        broken = max((one.maximum for one in widths), default=0) - max((one.minimum for one in widths), default=0)
        least = self.__rich_measure__(console, endless).maximum - broken  # the first column may break between words
        if least > options.max_width:
            options = options.update(width=least, max_width=least)
        return super().__rich_console__(console, options)


_ENDLESS = 10_000


def plain_table(*head: str) -> Table:
    """A table with a line under its head; the first column is text, the others are set right and never broken."""
    table = PlainTable(box=box.SIMPLE_HEAD, pad_edge=False, header_style="dim", show_edge=False, padding=(0, 1))
    for place, name in enumerate(head):
        table.add_column(name, justify="left" if place == 0 else "right", no_wrap=place > 0)
    return table
