"""`fedpeft compare RUN ...`: finished runs side by side; those that differ in their seed as mean and interval."""

from __future__ import annotations

from typing import Annotated

import typer

from fedpeft.cli.find import find_run
from fedpeft.cli.output import Format, FormatOption, console, print_json


def compare(
    runs: Annotated[list[str], typer.Argument(help="Names of runs under runs/, or their folders.")],
    format: FormatOption = Format.TEXT,
) -> None:
    """Compare finished runs: runs that differ in their seed only become one line with a 95 % interval."""
    from fedpeft.cli.group_tables import print_groups
    from fedpeft.cli.seeds import read_groups

    folders = list(dict.fromkeys(map(find_run, runs)))
    groups = read_groups(folders)
    if format is Format.JSON:
        print_json({"groups": [group.to_json() for group in groups]})
        return
    out = console()
    print_groups(out, groups)
    left_out = len(folders) - sum(len(group.runs) for group in groups)
    if left_out:
        out.print(f"{left_out} not finished yet: left out", style="yellow")
