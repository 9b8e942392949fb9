"""`fedpeft show RUN`: what a run came to so far, and what happened in it."""

from __future__ import annotations

import dataclasses
from datetime import datetime
from typing import Annotated

import typer

from fedpeft.cli.find import RunArgument, find_run
from fedpeft.cli.output import Format, FormatOption, console, print_json


def show(
    run: RunArgument,
    events: Annotated[bool, typer.Option("--events", help="Also every event of the journal.")] = False,
    format: FormatOption = Format.TEXT,
) -> None:
    """Show a run's result, rounds and incidents; works while it is going on."""
    folder = find_run(run)
    from fedpeft.cli.tables import (
        bytes_tables,
        forms_table,
        participation_table,
        print_result,
        ranks_table,
        rounds_table,
        schedule_table,
    )
    from fedpeft.journal import Journal
    from fedpeft.report.bytes_by import bytes_by
    from fedpeft.report.history import describe, read_history
    from fedpeft.report.scheduling import schedule_history
    from fedpeft.report.summary import stored_config, stored_plan, summarise

    with Journal.read(folder) as journal:
        result, plan, all_events = summarise(journal), stored_plan(journal), list(journal.events())
        moved = bytes_by(all_events, stored_config(journal))
    history, schedule = read_history(all_events), schedule_history(all_events)
    if format is Format.JSON:
        document = {
            "result": result.to_json(),
            "plan": None if plan is None else plan.to_payload(),
            "rounds": [dataclasses.asdict(row) for row in history.rounds],
            "evaluated": [dataclasses.asdict(item) for item in history.evaluated],
            "incidents": [dataclasses.asdict(item) for item in history.incidents],
            "participation": [dataclasses.asdict(item) for item in history.participation],
            "ranks": [dataclasses.asdict(item) for item in history.ranks],
            "forms": [dataclasses.asdict(item) for item in history.forms],
            "bytes_by": dataclasses.asdict(moved),
        }
        if events:
            document["events"] = [dataclasses.asdict(event) for event in all_events]
        print_json(document)
        return
    out = console()
    if history.rounds:
        values = {item.round: item.metrics.get(result.metric) for item in history.tests}
        out.print(rounds_table(history.rounds, result.metric, values))
    for incident in history.incidents:
        where = "" if incident.round is None else f"round {incident.round}: "
        who = "" if incident.client is None else f"client {incident.client} "
        out.print(f"{where}{who}{incident.kind}: {incident.text}", style="yellow", soft_wrap=True)
    if history.participation:
        out.print("", participation_table(history.participation), sep="\n")
    if history.ranks:
        out.print("", ranks_table(history.ranks), sep="\n")
    if history.forms:
        out.print("", forms_table(history.forms), sep="\n")
    if moved.classes:
        out.print(bytes_tables(moved))
    if schedule.chosen:
        out.print("", schedule_table(schedule), sep="\n")
    print_result(out, result)
    if events:
        for event in all_events:
            time = datetime.fromtimestamp(event.at).strftime("%H:%M:%S")
            scope = "".join(f" {value}" for value in (event.round, event.client) if value is not None)
            out.print(f"{event.seq:>6} {time} {event.kind}{scope}: {describe(event)}", soft_wrap=True)
