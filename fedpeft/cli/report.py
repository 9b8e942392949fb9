"""`fedpeft report RUN`: write the HTML report."""

from __future__ import annotations

import webbrowser
from typing import Annotated

import typer

from fedpeft.cli.find import RunArgument, find_run
from fedpeft.cli.output import Format, FormatOption, print_json


def report(
    run: RunArgument,
    open_: Annotated[bool, typer.Option("--open", help="Open it in the browser.")] = False,
    format: FormatOption = Format.TEXT,
) -> None:
    """Write report.html into a run's folder: one file that works offline; a run that is going on has one too."""
    folder = find_run(run)
    from fedpeft.report.page import write_report

    path = write_report(folder)
    if format is Format.JSON:
        print_json({"report": str(path)})
    else:
        typer.echo(str(path))
    if open_:
        webbrowser.open(path.resolve().as_uri())
