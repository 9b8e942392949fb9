"""From what a person typed to a run's folder."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, TypeAlias

import typer

RUNS = Path("runs")

RunArgument: TypeAlias = Annotated[str, typer.Argument(help="A run's name under runs/, or its folder.")]


def find_run(name: str) -> Path:
    """The folder of a run, given as a folder or as a name under `runs/`.

    Raises:
        JournalError: there is no such run (`journal.missing`); names those that there are.
    """
    from fedpeft.errors import JournalError, closest
    from fedpeft.journal import list_runs

    for folder in (Path(name), RUNS / name):
        if (folder / "journal.sqlite").is_file():
            return folder
    known = [summary.name for summary in list_runs(RUNS)]
    raise JournalError(
        f'there is no run "{name}": neither {name} nor {RUNS / name} holds a journal',
        code="journal.missing",
        allowed=", ".join(known) or f"no runs in {RUNS}/ yet",
        remedy=closest(name, known) or "`fedpeft ls` lists the runs, `fedpeft run FILE` begins one",
    )
