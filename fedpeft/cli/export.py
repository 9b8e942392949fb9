"""`fedpeft export RUN --to DIR`: the adapter as others load it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fedpeft.cli.find import RunArgument, find_run
from fedpeft.cli.output import Format, FormatOption, print_json
from fedpeft.cli.which import ClientOption, Which, WhichOption


def export(
    run: RunArgument,
    to: Annotated[Path, typer.Option("--to", help="Folder to write: new, empty, or an earlier export of its kind.")],
    merged: Annotated[bool, typer.Option("--merged", help="The whole model with the adapter merged in.")] = False,
    which: WhichOption = Which.KEPT,
    client: ClientOption = None,
    pruned: Annotated[
        float, typer.Option("--pruned", help="The whole model without this share of heads and channels, merged.")
    ] = 0.0,
    format: FormatOption = Format.TEXT,
) -> None:
    """Write a run's adapter as a peft folder that PeftModel.from_pretrained loads."""
    folder = find_run(run)
    from fedpeft import api

    path = api.export(folder, to, merged=merged, which=which.value, client=client, pruned=pruned)
    written: dict[str, object] = {"path": str(path), "merged": merged or pruned > 0}
    note = ""
    if pruned > 0:
        from fedpeft.pruning.exporting import needs_loader

        written["load"], note = _OWN if needs_loader(path) else _ORDINARY
    if format is Format.JSON:
        print_json(written)
    else:
        typer.echo(str(path))
        if note:
            typer.echo(note.format(path), err=True)


_ORDINARY = "transformers", "an ordinary transformers folder: from_pretrained loads it"
_WHY = "the smaller weights and their mask, since this architecture's configuration has no words for them"
_OWN = "fedpeft.load_pruned", _WHY + ': fedpeft.load_pruned("{}") loads them'
