"""The tables on the screen: the plan before a run, the result after it, the list of runs. All fit in 80 columns."""

from __future__ import annotations

import os
from collections.abc import Sequence

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from fedpeft.cli.client_tables import clients_table
from fedpeft.cli.look import plain_table
from fedpeft.journal import RunState, RunSummary
from fedpeft.journal.headline import ACCURACY, LOSS
from fedpeft.paths import run_argument
from fedpeft.report.bytes_by import CLASS_HEAD, KIND_HEAD, BytesBy
from fedpeft.report.client_bytes import CLIENT_HEAD, extremes
from fedpeft.report.forms import FORM_HEAD, FormCount
from fedpeft.report.history import RoundRow
from fedpeft.report.participation import HEAD, Participation
from fedpeft.report.ranks import RANKS_HEAD, RankCount
from fedpeft.report.scheduling import HEAD as SCHEDULE_HEAD
from fedpeft.report.scheduling import ScheduleHistory, schedule_rows
from fedpeft.report.summary import RunPlan, RunResult
from fedpeft.report.units import (
    MISSING,
    bytes_text,
    count_text,
    metric_interval,
    metric_label,
    metric_text,
    percent_text,
    ratio_text,
    seconds_text,
)

_CLIENTS = 3
"""Of those that sent most, and of those that sent least: the report has more, `--format json` has all."""

_STATE_STYLES = {
    RunState.FINISHED: "green",
    RunState.RUNNING: "cyan",
    RunState.INTERRUPTED: "yellow",
    RunState.UNREADABLE: "red",
}


def plan_table(plan: RunPlan) -> RenderableType:
    """What a run is about to do and cost: facts, then a line per device class."""
    share = 100 * plan.trainable_parameters / plan.base_parameters if plan.base_parameters else 0.0
    trained = f"{count_text(plan.trainable_parameters)} of {count_text(plan.base_parameters)} parameters, {share:.2f} %"
    up, down = plan.updates * plan.update_bytes, plan.updates * plan.broadcast_bytes
    facts = _facts(
        [
            ("data", plan.description),
            (
                "model",
                plan.model
                + (f", {plan.labels} labels" if plan.labels else "")
                + f", {count_text(plan.test_examples)} test examples",
            ),
            ("trained", trained),
            ("rounds", plan.rounds_text()),
            ("per round", f"{bytes_text(up)} up, {bytes_text(down)} down; whole model: {_whole(plan)} each way"),
            ("training", f"{count_text(plan.example_passes)} example passes, clients {plan.trainer}"),
            ("arithmetic", plan.arithmetic),
        ]
    )
    devices = plain_table("devices", "clients", "examples", "memory needed", "of")
    for device in plan.devices:
        tight = device.memory_mb_needed > device.memory_mb_available
        devices.add_row(
            Text(device.name),
            count_text(device.clients),
            count_text(device.examples),
            Text(bytes_text(1e6 * device.memory_mb_needed), style="red" if tight else ""),
            bytes_text(1e6 * device.memory_mb_available),
        )
    notes = [Text(f"note: {note}", style="yellow") for note in plan.notes]
    title = Text.assemble((plan.name, "bold"), " — the plan")
    return Group(title, "", facts, "", devices, *notes, "")


def print_result(console: Console, result: RunResult) -> None:
    """The result and where its files are."""
    console.print("", result_table(result), "", sep="\n")
    clients = clients_table(result)
    if clients is not None:
        console.print(clients, "", sep="\n")
    console.print(traffic_table(result), "", sep="\n")
    if result.refused:
        names = ", ".join(dict.fromkeys(refusal.client for refusal in result.refused))
        console.print(f"{len(result.refused)} updates refused, from: {names}", style="yellow")
    print_files(console, result)


def result_table(result: RunResult) -> RenderableType:
    """The headline metric, of an accuracy with its 95 % interval, the example passes behind it, and other metrics."""
    metric = result.metric
    others = sorted({name for found in result.metrics.values() for name in found} - {metric, LOSS})[:3]
    table = plain_table(
        "",
        metric_label(metric),
        *(["95 % interval"] if metric == ACCURACY else []),
        *map(metric_label, others),
        "example passes",
    )
    passes = {"zero-shot": 0, "federated": result.example_passes, "centralised": result.centralised_passes}
    rows = [
        ("zero-shot", "zero_shot", result.zero_shot),
        ("federated", "federated", result.federated),
        ("centralised", "centralised", result.centralised),
    ]
    if result.best is not None:
        rows.insert(2, (f"best, round {result.best_round}", "best", result.best))
    for label, key, value in rows:
        more = result.metrics.get(key, {})
        table.add_row(
            Text(label, style="bold" if label == "federated" else ""),
            metric_text(metric, value),
            *([metric_interval(metric, value, result.test_examples)] if metric == ACCURACY else []),
            *(metric_text(name, more.get(name)) for name in others),
            count_text(passes[label]) if label in passes and (value is not None or label == "federated") else MISSING,
        )
    state = f"{result.rounds} of {result.rounds_asked} rounds in {seconds_text(result.seconds)}"
    note = f"{state}; {count_text(result.test_examples)} test examples" if result.test_examples else state
    parts: list[RenderableType] = [Text.assemble((result.name, "bold"), f" — {note}"), ""]
    if result.stopped:
        parts[1:1] = [Text(f"stopped early: {result.stopped}", style="yellow")]
    return Group(*parts, table)


def traffic_table(result: RunResult) -> RenderableType:
    """Bytes at the frame and at Flower's wire, against the whole model."""
    full = result.full_model_bytes
    table = plain_table("bytes moved", "up", "down", "both", "less by")
    for name, up, down in (
        ("frames", result.frame_up, result.frame_down),
        ("Flower's wire", result.wire_up, result.wire_down),
    ):
        ratio = ratio_text(full / (up + down)) if full and up + down else MISSING
        table.add_row(name, bytes_text(up), bytes_text(down), bytes_text(up + down), ratio)
    if full:
        half = bytes_text(full / 2)
        table.add_row("fp32 FedAvg, whole model", half, half, bytes_text(full), "1×", style="dim")
    return table


def print_files(console: Console, result: RunResult) -> None:
    """Where things are, and what to do next: a line each, however long, to be found and copied whole."""
    facts = [
        (name, os.path.join(result.folder, file))
        for name, file in (
            ("report", "report.html"),
            ("adapter", "adapter"),
            ("best round", "adapter-best"),
            ("last round", "adapter-last"),
        )
        if (result.folder / file).exists()
    ]
    if result.adapter_hash:
        facts.append(("hash", result.adapter_hash))
    if not result.finished:
        facts.append(("go on", f"fedpeft resume {run_argument(result.folder)}"))
    for name, value in facts:
        console.print(Text.assemble((f"{name:<10}  ", "dim"), value), soft_wrap=True)


def rounds_table(rows: Sequence[RoundRow], metric: str, values: dict[int, float | None]) -> RenderableType:
    """One line a commit; `values` of the headline metric, by round. Owed: how much of what was learned clients lack."""
    stale, owed = any(row.staleness_max for row in rows), any(row.owed is not None for row in rows)
    head = ("round", "replies", metric_label(metric), "up", "down", "seconds")
    mixed = any(row.mixing for row in rows)
    costs = {"mix_distance": "mix off", "mix_discarded": "lost"}
    more = [
        *(["staleness", "longest"] if stale else []),
        *(["owed"] if owed else []),
        *(costs.values() if mixed else []),
    ]
    table = plain_table(*head, *more)
    for row in rows:
        ages = [MISSING if row.staleness_mean is None else f"{row.staleness_mean:.2f}"]
        ages.append(MISSING if row.staleness_max is None else str(row.staleness_max))
        table.add_row(
            str(row.round),
            str(row.accepted) if row.round else MISSING,
            metric_text(metric, values.get(row.round)),
            bytes_text(row.moved["frame_up"]),
            bytes_text(row.moved["frame_down"]),
            f"{row.seconds:.1f}",
            *(ages if stale else []),
            *([MISSING if row.owed is None else percent_text(row.owed)] if owed else []),
            *([percent_text(row.mixing[name] if row.mixing else None) for name in costs] if mixed else []),
        )
    return table


def forms_table(forms: Sequence[FormCount]) -> RenderableType:
    """One line a form in which zeroth-order clients were sent the model."""
    table = plain_table(*FORM_HEAD)
    for one in forms:
        table.add_row(*map(Text, one.cells()))
    return table


def participation_table(classes: Sequence[Participation]) -> RenderableType:
    """One line a class of devices: who was asked and folded, and how stale."""
    table = plain_table(*HEAD)
    for one in classes:
        table.add_row(*map(Text, one.cells()))
    return table


def ranks_table(classes: Sequence[RankCount]) -> RenderableType:
    """One line a class of devices in which a rule lowered ranks."""
    table = plain_table(*RANKS_HEAD)
    for one in classes:
        table.add_row(*map(Text, one.cells()))
    return table


def bytes_tables(found: BytesBy) -> RenderableType:
    """Frames by class of devices and codec, by kind of message, and by client; each table behind an empty line."""
    shown: list[RenderableType] = []
    clients, said = extremes(found.clients, _CLIENTS)
    for head, rows, about in (
        (CLASS_HEAD, found.classes, found.about),
        (KIND_HEAD, found.kinds, ""),
        (CLIENT_HEAD, clients, said),
    ):
        if rows:
            table = plain_table(*head)
            for row in rows:
                table.add_row(*map(Text, row.cells()))
            shown += ["", table, *([Text(about, style="dim")] if about else [])]
    return Group(*shown)


def schedule_table(history: ScheduleHistory) -> RenderableType:
    """What a scheduler settled on, one line a class of devices; the report's table says more than 80 columns hold."""
    table = plain_table(*SCHEDULE_HEAD[:4])
    for row in schedule_rows(history, {}):
        table.add_row(*(Text(cell, overflow="fold") for cell in row[:4]))
    return table


def runs_table(runs: Sequence[RunSummary]) -> RenderableType:
    """One line a run."""
    metrics = {run.metric for run in runs if run.value is not None} or {ACCURACY}
    one = metrics.pop() if len(metrics) == 1 else ""  # runs of several tasks: each line names its own metric
    table = plain_table("run", "state", "rounds", metric_label(one) if one else "metric", "adapter")
    for run in runs:
        asked = "?" if run.rounds_asked is None else str(run.rounds_asked)
        table.add_row(
            Text(run.name, overflow="fold"),
            Text(run.state, style=_STATE_STYLES[run.state]),
            f"{run.rounds_done} of {asked}",
            ("" if one or run.value is None else metric_label(run.metric) + " ") + metric_text(run.metric, run.value),
            (run.adapter or MISSING)[:12],
        )
    return table


def _whole(plan: RunPlan) -> str:
    return bytes_text(plan.updates * plan.full_model_bytes)


def _facts(facts: Sequence[tuple[str, str]]) -> Table:
    """Names and values; a long value goes on under itself."""
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in facts:
        table.add_row(name, Text(value))
    return table
