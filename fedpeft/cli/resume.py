"""`fedpeft resume RUN`: go on from the last commit."""

from __future__ import annotations

from typing import Any

import typer

from fedpeft.cli.find import RunArgument, find_run
from fedpeft.cli.output import Format, FormatOption, Session
from fedpeft.cli.run import perform
from fedpeft.paths import run_argument


def resume(context: typer.Context, run: RunArgument, format: FormatOption = Format.TEXT) -> None:
    """Go on with an interrupted run, from its last committed round."""
    folder = find_run(run)
    from fedpeft.journal import Journal
    from fedpeft.report.summary import RunResult, stored_config

    with Journal.read(folder) as journal:
        rounds = stored_config(journal).run.rounds
    session = context.ensure_object(Session)
    session.run = run_argument(folder)
    from fedpeft import api

    def work(**watching: Any) -> RunResult:
        return api.resume(folder, **watching)

    perform(session, folder, rounds, work, format, resumed=True)
