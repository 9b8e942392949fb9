"""`fedpeft compare RUN ...`: finished runs side by side; those that differ in their seed as mean and interval."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fedpeft.cli.find import find_run
from fedpeft.cli.output import Format, FormatOption, console, print_json


def compare(
    runs: Annotated[list[str], typer.Argument(help="Names of runs under runs/, or their folders.")],
    page: Annotated[
        Path | None, typer.Option("--page", metavar="FILE.html", help="Write curves and table as a page too.")
    ] = None,
    target: Annotated[
        str | None, typer.Option("--target", metavar="METRIC=VALUE", help="Compare the time until it was reached.")
    ] = None,
    format: FormatOption = Format.TEXT,
) -> None:
    """Compare finished runs: runs that differ in their seed only become one line with a 95 % interval."""
    from fedpeft.cli.group_tables import print_groups
    from fedpeft.cli.seeds import groups_document, read_groups
    from fedpeft.cli.target_table import print_targets
    from fedpeft.report.targets import parse_target, times_to

    aim = parse_target(target) if target is not None else None
    folders = list(dict.fromkeys(map(find_run, runs)))
    groups = read_groups(folders)
    if page is not None and groups:
        from fedpeft.report.comparison import write_comparison

        write_comparison(page, groups)
    times = times_to(groups, aim) if aim is not None else []
    if format is Format.JSON:
        more = {"targets": [one.to_json() for one in times]} if aim is not None else {}
        print_json({**groups_document(groups), **more})
        return
    out = console()
    print_groups(out, groups)
    if aim is not None:
        print_targets(out, aim, times)
    left_out = len(folders) - sum(len(group.runs) for group in groups)
    if left_out:
        out.print(f"{left_out} not finished yet: left out", style="yellow")
    if page is not None and groups:
        out.print(f"curves: {page}", soft_wrap=True)
