"""The tables on the screen: the plan before a run, the result after it, the list of runs. All fit in 80 columns."""

from __future__ import annotations

import os
from collections.abc import Sequence

from rich import box
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from fedpeft.cli.run import run_argument
from fedpeft.journal import RunState, RunSummary
from fedpeft.report.history import RoundRow
from fedpeft.report.summary import RunPlan, RunResult
from fedpeft.report.units import (
    MISSING,
    bytes_text,
    count_text,
    interval_text,
    percent_text,
    ratio_text,
    seconds_text,
)

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
    up, down = plan.ask * plan.update_bytes, plan.ask * plan.broadcast_bytes
    facts = _facts(
        [
            ("data", plan.description),
            ("model", f"{plan.model}, {plan.labels} labels, {count_text(plan.test_examples)} test examples"),
            ("trained", trained),
            ("rounds", f"{plan.rounds}, asking {plan.ask} of {plan.clients} clients in each"),
            ("per round", f"{bytes_text(up)} up, {bytes_text(down)} down; whole model: {_whole(plan)} each way"),
            ("training", f"{count_text(plan.example_passes)} example passes, clients {plan.trainer}"),
            ("arithmetic", plan.arithmetic),
        ]
    )
    devices = _table("devices", "clients", "examples", "memory needed", "of")
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
    console.print("", result_table(result), "", traffic_table(result), "", sep="\n")
    if result.refused:
        names = ", ".join(dict.fromkeys(refusal.client for refusal in result.refused))
        console.print(f"{len(result.refused)} updates refused, from: {names}", style="yellow")
    console.print(files(result))


def result_table(result: RunResult) -> RenderableType:
    """Accuracies with their 95 % intervals and the example passes behind them."""
    table = _table("", "accuracy", "95 % interval", "example passes")
    passes = {"zero-shot": 0, "federated": result.example_passes, "centralised": result.centralised_passes}
    for name, accuracy in (
        ("zero-shot", result.zero_shot),
        ("federated", result.federated),
        ("centralised", result.centralised),
    ):
        table.add_row(
            Text(name, style="bold" if name == "federated" else ""),
            percent_text(accuracy),
            interval_text(accuracy, result.test_examples),
            count_text(passes[name]) if accuracy is not None or name == "federated" else MISSING,
        )
    state = f"{result.rounds} of {result.rounds_asked} rounds in {seconds_text(result.seconds)}"
    note = f"{state}; {count_text(result.test_examples)} test examples" if result.test_examples else state
    return Group(Text.assemble((result.name, "bold"), f" — {note}"), "", table)


def traffic_table(result: RunResult) -> RenderableType:
    """Bytes at the frame and at Flower's wire, against the whole model."""
    full = result.full_model_bytes
    table = _table("bytes moved", "up", "down", "both", "less by")
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


def files(result: RunResult) -> RenderableType:
    """Where things are, and what to do next."""
    facts = [
        (name, os.path.join(result.folder, file))
        for name, file in (("report", "report.html"), ("adapter", "adapter"))
        if (result.folder / file).exists()
    ]
    if result.adapter_hash:
        facts.append(("hash", result.adapter_hash))
    if not result.finished:
        facts.append(("go on", f"fedpeft resume {run_argument(result.folder)}"))
    return _facts(facts)


def rounds_table(rows: Sequence[RoundRow], accuracies: dict[int, float | None]) -> RenderableType:
    """One line a commit."""
    table = _table("round", "replies", "accuracy", "up", "down", "seconds")
    for row in rows:
        table.add_row(
            str(row.round),
            str(row.accepted) if row.round else MISSING,
            percent_text(accuracies.get(row.round)),
            bytes_text(row.moved["frame_up"]),
            bytes_text(row.moved["frame_down"]),
            f"{row.seconds:.1f}",
        )
    return table


def runs_table(runs: Sequence[RunSummary]) -> RenderableType:
    """One line a run."""
    table = _table("run", "state", "rounds", "accuracy", "adapter")
    for run in runs:
        asked = "?" if run.rounds_asked is None else str(run.rounds_asked)
        table.add_row(
            Text(run.name, overflow="fold"),
            Text(run.state, style=_STATE_STYLES[run.state]),
            f"{run.rounds_done} of {asked}",
            percent_text(run.accuracy),
            (run.adapter or MISSING)[:12],
        )
    return table


def _whole(plan: RunPlan) -> str:
    return bytes_text(plan.ask * plan.full_model_bytes)


def _table(*head: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="dim", show_edge=False, padding=(0, 1))
    for place, name in enumerate(head):
        table.add_column(name, justify="left" if place == 0 else "right", no_wrap=place > 0)
    return table


def _facts(facts: Sequence[tuple[str, str]]) -> Table:
    """Names and values; a long value goes on under itself, a path or a hash never breaks."""
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in facts:
        table.add_row(name, Text(value))
    return table
