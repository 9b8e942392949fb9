"""`fedpeft export RUN --to DIR`: the adapter as others load it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fedpeft.cli.find import RunArgument, find_run
from fedpeft.cli.output import Format, FormatOption, print_json


def export(
    run: RunArgument,
    to: Annotated[Path, typer.Option("--to", help="Folder to write; created.")],
    merged: Annotated[bool, typer.Option("--merged", help="The whole model with the adapter merged in.")] = False,
    format: FormatOption = Format.TEXT,
) -> None:
    """Write the last committed adapter as a peft folder that PeftModel.from_pretrained loads."""
    folder = find_run(run)
    from fedpeft import api

    path = api.export(folder, to, merged=merged)
    if format is Format.JSON:
        print_json({"path": str(path), "merged": merged})
    else:
        typer.echo(str(path))
