"""`fedpeft compare RUN ...`: finished runs side by side; those that differ in their seed as mean and interval."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from fedpeft.cli.find import find_run
from fedpeft.cli.output import Format, FormatOption, console, print_json


def compare(
    runs: Annotated[
        list[str], typer.Argument(help="Names of runs under runs/, their folders, or files that --save wrote.")
    ],
    page: Annotated[
        Path | None, typer.Option("--page", metavar="FILE.html", help="Write curves and table as a page too.")
    ] = None,
    target: Annotated[
        str | None, typer.Option("--target", metavar="METRIC=VALUE", help="Compare the time until it was reached.")
    ] = None,
    save: Annotated[
        Path | None, typer.Option("--save", metavar="FILE.jsonl", help="Add the runs to a file, to compare elsewhere.")
    ] = None,
    format: FormatOption = Format.TEXT,
) -> None:
    """Compare finished runs: runs that differ in their seed only become one line with a 95 % interval."""
    from fedpeft.cli.group_tables import print_groups
    from fedpeft.cli.mixing_table import print_mixing
    from fedpeft.cli.seeds import groups_document, read_runs
    from fedpeft.cli.target_table import print_targets
    from fedpeft.errors import ConfigError
    from fedpeft.paths import run_argument
    from fedpeft.report.mixing_costs import mixing_costs
    from fedpeft.report.record import SUFFIX, once, read_records, write_records
    from fedpeft.report.seeds import group_runs
    from fedpeft.report.targets import parse_target, times_to

    aim = parse_target(target) if target is not None else None
    if save is not None and save.suffix != SUFFIX:
        raise ConfigError(
            f"--save {save}: compare knows a file of runs by its ending",
            code="config.save",
            allowed=f"a file that ends in {SUFFIX}",
            remedy=f"name it {save.with_suffix(SUFFIX)}",
        )
    if page is not None and page.suffix != ".html":
        raise ConfigError(
            f"--page {page}: compare writes pages as .html",
            code="config.page",
            allowed="a file that ends in .html",
            remedy=f"name it {page.with_suffix('.html')}",
        )
    places = list(dict.fromkeys(runs))
    saved = [record for place in places if place.endswith(SUFFIX) for record in read_records(Path(place))]
    folders = list(dict.fromkeys(find_run(place) for place in places if not place.endswith(SUFFIX)))
    read = {folder: read_runs([folder]) for folder in folders}
    found, unfinished = [one for runs in read.values() for one in runs], [place for place in read if not read[place]]
    records = once([*saved, *found])
    if not records:
        raise ConfigError(
            f"nothing to compare: no finished run in {', '.join(places)}",
            code="config.nothing-finished",
            allowed="finished runs, or files of them",
            remedy=f"fedpeft resume {run_argument(unfinished[0])}" if unfinished else "name other runs",
        )
    groups = group_runs(records)
    times, mixed = times_to(groups, aim) if aim is not None else [], mixing_costs(groups)
    if page is not None:
        from fedpeft.report.comparison import write_comparison

        write_comparison(page, groups)
    held = write_records(save, records) if save is not None else 0
    if format is Format.JSON:
        more: dict[str, Any] = {"targets": [one.to_json() for one in times]} if aim is not None else {}
        more["left_out"] = list(map(str, unfinished))
        if mixed:
            more["mixing"] = [one.to_json() for one in mixed]
        print_json({**groups_document(groups), **more})
        return
    out = console()
    print_groups(out, groups)
    print_mixing(out, mixed)
    if aim is not None:
        print_targets(out, aim, times)
    if unfinished:
        out.print(f"not finished yet, left out: {', '.join(map(str, unfinished))}", style="yellow", soft_wrap=True)
    if page is not None:
        out.print(f"curves: {page}", soft_wrap=True)
    if save is not None:
        out.print(f"{held} run{'s' * (held != 1)} kept: {save}", soft_wrap=True)
