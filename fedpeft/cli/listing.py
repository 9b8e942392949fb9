"""`fedpeft ls`: the runs in a folder and how they stand."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fedpeft.cli.find import RUNS
from fedpeft.cli.output import Format, FormatOption, console, print_json


def ls(
    folder: Annotated[Path, typer.Option("--folder", help="Where the runs are.")] = RUNS,
    format: FormatOption = Format.TEXT,
) -> None:
    """List the runs in a folder: rounds done, last accuracy, adapter, state."""
    from fedpeft.journal import list_runs

    runs = list_runs(folder)
    if format is Format.JSON:
        print_json(
            [
                {
                    "name": run.name,
                    "folder": str(run.folder),
                    "state": str(run.state),
                    "rounds_done": run.rounds_done,
                    "rounds_asked": run.rounds_asked,
                    "accuracy": run.accuracy,
                    "metric": run.metric,
                    "value": run.value,
                    "adapter": run.adapter,
                    "error": None if run.error is None else {"code": run.error.code, "message": run.error.message},
                }
                for run in runs
            ]
        )
        return
    from fedpeft.cli.tables import runs_table

    out = console()
    if not runs:
        out.print(f"no runs in {folder}/ yet; fedpeft run FILE begins one")
        return
    out.print(runs_table(runs))
    for run in runs:
        if run.error is not None:
            out.print(f"{run.name}: {run.error.message} [{run.error.code}]", style="red", soft_wrap=True)
