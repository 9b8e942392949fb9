"""The sections of the report as HTML. Whatever comes from a client, a run file or an error goes through `escape`."""

from __future__ import annotations

import base64
import shlex
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from html import escape

from fedpeft.journal.headline import ACCURACY
from fedpeft.paths import run_argument
from fedpeft.report.bytes_by import CLASS_HEAD, KIND_HEAD, BytesBy
from fedpeft.report.client_bytes import CLIENT_HEAD, extremes
from fedpeft.report.forms import FORM_HEAD
from fedpeft.report.history import History, Incident
from fedpeft.report.participation import HEAD
from fedpeft.report.ranks import RANKS_HEAD
from fedpeft.report.scheduling import ENOUGH as SEEN
from fedpeft.report.scheduling import HEAD as SCHEDULE_HEAD
from fedpeft.report.scheduling import ScheduleHistory, schedule_rows
from fedpeft.report.summary import OracleArm, RunPlan, RunResult
from fedpeft.report.units import (
    MISSING,
    bytes_text,
    count_text,
    difference_text,
    metric_interval,
    metric_label,
    metric_text,
    ratio_text,
    seconds_text,
)

_MOST_INCIDENTS = 500  # rows of the events table; `fedpeft show` has them all
_CLIENTS = 10  # of those that sent most, and of those that sent least


def heading(result: RunResult, plan: RunPlan | None, history: History, version: str) -> str:
    """Name, data line, and how the run stands."""
    lines = [f"<h1>{escape(result.name)}</h1>"]
    stopped = f" · stopped early: {escape(result.stopped)}" if result.stopped else ""
    if plan is not None:
        lines.append(f'<p class="soft">{escape(plan.description)} · base model {escape(plan.model)}</p>')
    rounds = f"{result.rounds} of {result.rounds_asked} rounds"
    if result.finished:
        lines.append(f"<p>{rounds} in {seconds_text(result.seconds)} · fedpeft {escape(version)}{stopped}</p>")
    else:
        resume = escape(f"fedpeft resume {run_argument(result.folder)}")
        lines.append(
            f'<p><span class="state">Not finished:</span> {rounds} are committed after '
            f"{seconds_text(result.seconds)}. <code>{resume}</code> goes on.</p>"
        )
    if history.sessions > 1:
        lines.append(
            f'<p class="soft">In {history.sessions} sessions; what interrupted attempts moved is not counted.</p>'
        )
    return "\n".join(lines)


def headline(result: RunResult) -> str:
    """The figures that the run is about, as tiles; only those that there are."""
    n, metric, tiles = result.test_examples, result.metric, []
    label = metric_label(metric)
    better = "" if result.larger_is_better else "; smaller is better"

    def told(value: float) -> str:
        interval = f" ({metric_interval(metric, value, n)})" if metric == ACCURACY else ""
        return metric_text(metric, value) + interval

    shown = result.federated if result.federated is not None else result.zero_shot
    if shown is not None:
        name = f"federated {label}" if result.federated is not None else f"zero-shot {label}"
        interval = f"95 % interval {metric_interval(metric, shown, n)}, " if metric == ACCURACY else ""
        tiles.append(_tile(name, metric_text(metric, shown), f"{interval}{count_text(n)} examples{better}"))
    if result.federated is not None and result.zero_shot is not None:
        note = f"zero-shot {told(result.zero_shot)}"
        tiles.append(_tile("against zero-shot", difference_text(metric, result.federated - result.zero_shot), note))
    if result.federated is not None and result.centralised is not None:
        note = (
            f"centralised {told(result.centralised)}, "
            f"{count_text(result.centralised_passes)} example passes; federated {count_text(result.example_passes)}"
        )
        gap = difference_text(metric, result.federated - result.centralised)
        tiles.append(_tile("against centralised", gap, note))
    if result.best is not None:
        note = "the best round is chosen on this test set, so its figure is a little too good"
        tiles.append(_tile(f"best, round {result.best_round}", metric_text(metric, result.best), note))
    after = result.clients.get("after", {}).get(metric)
    if after is not None:
        note = (
            f"{count_text(after.clients)} clients, each on its own held-out examples: from "
            f"{metric_text(metric, after.min)} to {metric_text(metric, after.max)}, worst tenth "
            f"{metric_text(metric, after.worst)}"
        )
        tiles.append(_tile(f"mean per-client {label}", metric_text(metric, after.mean), note))
    if result.saving is not None:
        note = (
            f"{bytes_text(result.frame_bytes)} in frames against {bytes_text(result.full_model_bytes)} of fp32 FedAvg "
            "of the whole model"
        )
        tiles.append(_tile("fewer bytes", ratio_text(result.saving), note))
    if not tiles:
        return '<p class="soft">Nothing was evaluated and nothing was moved yet.</p>'
    return f'<div class="tiles">{"".join(tiles)}</div>'


def traffic_table(result: RunResult) -> str:
    """Bytes up and down at both levels against the whole model."""
    full = result.full_model_bytes / 2
    rows = []
    for name, up, down in (
        ("fedpeft frames", result.frame_up, result.frame_down),
        ("Flower's wire", result.wire_up, result.wire_down),
    ):
        ratio = ratio_text(result.full_model_bytes / (up + down)) + " less" if full and up + down else MISSING
        rows.append([name, bytes_text(up), bytes_text(down), bytes_text(up + down), ratio])
    if full:
        rows.append(["fp32 FedAvg, whole model", bytes_text(full), bytes_text(full), bytes_text(2 * full), "1×"])
    return table(["", "up", "down", "both", "against fp32 FedAvg"], rows, numbers={1, 2, 3, 4})


def bytes_tables(found: BytesBy) -> str:
    """Frames by class of devices and codec, by kind of message, and by client."""
    shown = ""
    if found.classes:
        shown += table(CLASS_HEAD, [row.cells() for row in found.classes], numbers={2, 3, 4, 5, 6})
        shown += f'<p class="soft">{escape(found.about)}</p>'
    if found.kinds:
        shown += table(KIND_HEAD, [row.cells() for row in found.kinds], numbers={1, 2, 3})
    clients, said = extremes(found.clients, _CLIENTS)
    if clients:
        shown += table(CLIENT_HEAD, [row.cells() for row in clients], numbers={2, 3, 4, 5, 6})
        shown += f'<p class="soft">{escape(said)}</p>'
    return shown


def incidents_table(history: History) -> str:
    """Refusals, failures, late and abandoned replies, short rounds and resumes, in the order of the run."""
    if not history.incidents:
        return "<p>None: every client that was asked answered in time, and every update was accepted.</p>"
    counts: dict[str, int] = {}
    for incident in history.incidents:
        counts[incident.kind] = counts.get(incident.kind, 0) + 1
    line = ", ".join(f"{count} {escape(kind)}" for kind, count in counts.items())
    rows = [_incident_row(incident) for incident in history.incidents[:_MOST_INCIDENTS]]
    more = len(history.incidents) - len(rows)
    note = f'<p class="soft">{more} more are in the journal: fedpeft show.</p>' if more else ""
    head = ["time (UTC)", "round", "client", "kind", "what happened"]
    return f"<p>{line}.</p>" + table(head, rows, numbers={1}, texts={2, 4}) + note


def participation_table(history: History) -> str:
    """Which classes of devices are in the adapter."""
    rows = [one.cells() for one in history.participation]
    note = (
        "Heard: clients of which an update is in the adapter. Staleness: commits between asking and folding, on "
        "average and the longest."
    )
    return _noted(HEAD, rows, note)


def _noted(head: Sequence[str], rows: Sequence[Sequence[str]], note: str) -> str:
    """A table, numbers in all columns but the first, and a sentence below it."""
    return table(head, rows, numbers=range(1, len(head))) + f'<p class="soft">{note}</p>'


def ranks_table(history: History) -> str:
    """In which classes of devices a rule lowered ranks; empty where it lowered none."""
    if not history.ranks:
        return ""
    note = "Ranks now, of the clients whose rank fell: they gave up components that shrank as they trained."
    rows = [one.cells() for one in history.ranks]
    return _noted(RANKS_HEAD, rows, note)


def forms_table(history: History) -> str:
    """What zeroth-order clients were sent of the model, by form; empty for any other run."""
    if not history.forms:
        return ""
    note = "Whole frames, plans included. A checkpoint is sent where it is shorter than the old coefficients."
    rows = [one.cells() for one in history.forms]
    return _noted(FORM_HEAD, rows, note)


def schedule_table(history: ScheduleHistory, oracle: Mapping[str, OracleArm]) -> str:
    """What the scheduler settled on, for each class of devices."""
    note = (
        f"Best in hindsight: the highest mean reward among arms that the class was given {SEEN} times or more. "
        "Oracle's: the best arm under the simulation's time model and the oracle's own assumption on gains."
    )
    rows = schedule_rows(history, oracle)
    return table(SCHEDULE_HEAD, rows, numbers={1, 3, 5}) + f'<p class="soft">{note}</p>'


def plan_section(plan: RunPlan) -> str:
    """What the run set out to do."""
    share = plan.trainable_parameters / plan.base_parameters if plan.base_parameters else 0.0
    facts = [
        ("data", plan.description),
        ("base model", f"{plan.model}, {count_text(plan.base_parameters)} parameters, frozen"),
        ("trained", f"{count_text(plan.trainable_parameters)} parameters, {100 * share:.2f} % of the base"),
        ("labels", count_text(plan.labels)),
        ("test examples", count_text(plan.test_examples)),
        ("rounds", plan.rounds_text()),
        ("one update", bytes_text(plan.update_bytes)),
        ("one broadcast", bytes_text(plan.broadcast_bytes)),
        ("whole model, fp32", bytes_text(plan.full_model_bytes)),
        ("example passes", count_text(plan.example_passes)),
        ("clients trained", plan.trainer),
        ("arithmetic", plan.arithmetic),
        *(("note", note) for note in plan.notes),
    ]
    devices = [
        [
            device.name,
            count_text(device.clients),
            count_text(device.examples),
            bytes_text(device.memory_mb_needed * 1e6),
            bytes_text(device.memory_mb_available * 1e6),
        ]
        for device in plan.devices
    ]
    head = ["devices", "clients", "examples", "memory needed", "memory there"]
    return definitions(facts) + table(head, devices, numbers={1, 2, 3, 4})


def repeat_section(result: RunResult, config_toml: str) -> str:
    """The adapter's hash, the command that repeats the run, and the resolved run file."""
    file = f"{result.name}.toml"
    encoded = base64.b64encode(config_toml.encode()).decode()
    command = f"fedpeft run {shlex.quote(file)} --name {shlex.quote(result.name + '-again')}"
    facts = definitions(
        [("adapter hash", result.adapter_hash or "nothing committed yet"), ("command", command)], code=True
    )
    more = (
        f"<p>It was first asked for {result.rounds_first} rounds, and went on to {result.rounds_asked}: where the "
        "schedule of the learning rate depends on how many there are, the run file gives another adapter.</p>"
        if 0 < result.rounds_first != result.rounds_asked
        else ""
    )
    return (
        "<p>One seed fixes the run: saved as "
        f'<a download="{escape(file)}" href="data:text/plain;base64,{encoded}">{escape(file)}</a>, the run file below '
        "gives the same adapter, bit by bit, on the same versions and machine type.</p>"
        f"{more}{facts}<details><summary>run file, with every default written out</summary>"
        f"<pre>{escape(config_toml)}</pre></details>"
    )


def table(
    head: Sequence[str],
    rows: Iterable[Sequence[str]],
    *,
    numbers: Collection[int] = (),
    texts: Collection[int] = (),
) -> str:
    """An HTML table of plain texts, each escaped here; columns in `numbers` are set right, in `texts` may wrap."""

    def kind(column: int) -> str:
        return ' class="number"' if column in numbers else ' class="text"' if column in texts else ""

    top = "".join(f"<th{kind(column)}>{escape(name)}</th>" for column, name in enumerate(head))
    body = "".join(
        "<tr>" + "".join(f"<td{kind(column)}>{escape(cell)}</td>" for column, cell in enumerate(row)) + "</tr>"
        for row in rows
    )
    return f'<div class="scroll"><table><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table></div>'


def definitions(facts: Iterable[tuple[str, str]], *, code: bool = False) -> str:
    """A list of names and values, each escaped here."""
    opened, closed = ("<code>", "</code>") if code else ("", "")
    return (
        "<dl>"
        + "".join(f"<dt>{escape(name)}</dt><dd>{opened}{escape(value)}{closed}</dd>" for name, value in facts)
        + "</dl>"
    )


def _tile(name: str, value: str, note: str) -> str:
    number, _, unit = value.partition(" ")
    small = f" <small>{escape(unit)}</small>" if unit else ""
    return (
        f'<div class="tile"><div class="name">{escape(name)}</div><div class="value">{escape(number)}{small}</div>'
        f'<div class="note soft">{escape(note)}</div></div>'
    )


def _incident_row(incident: Incident) -> list[str]:
    time = datetime.fromtimestamp(incident.at, UTC).strftime("%Y-%m-%d %H:%M:%S")
    number = MISSING if incident.round is None else str(incident.round)
    if incident.attempt is not None and incident.attempt > 1:
        number += f", attempt {incident.attempt}"
    return [time, number, incident.client or MISSING, incident.kind, incident.text]
