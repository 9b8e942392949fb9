"""`write_report`: a run as one HTML file."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from fedpeft.errors import JournalError
from fedpeft.journal import EventKind, Journal
from fedpeft.journal.headline import ACCURACY
from fedpeft.paths import run_argument, write_atomically
from fedpeft.report import client_tables, plots, sections
from fedpeft.report.bytes_by import BytesBy, bytes_by
from fedpeft.report.client_plots import clients_plot
from fedpeft.report.clock_plots import clock_plot, staleness_plot
from fedpeft.report.figure import Figure
from fedpeft.report.history import History, read_history
from fedpeft.report.metric_plots import metric_plot, metrics_of, spread_plot
from fedpeft.report.offline import offline_page, plot_box
from fedpeft.report.scheduling import ScheduleHistory, schedule_history
from fedpeft.report.scheduling_plots import arms_plot, completion_plot, regret_plot
from fedpeft.report.split_plot import split_caption, split_plot
from fedpeft.report.summary import RunPlan, RunResult, stored_config, stored_plan, summarise
from fedpeft.report.units import metric_label

FILE = "report.html"


def write_report(folder: Path) -> Path:
    """Write `report.html` into a run's folder from its journal; works while the run is going on, and after a crash.

    The file is about 5 MB, most of it Plotly's own script.

    Args:
        folder: the run's folder, `runs/NAME`.

    Returns:
        The file.

    Raises:
        JournalError: the journal is missing or corrupt, or the folder cannot be written (`report.not-written`).
    """
    with Journal.read(folder) as journal:
        page = _page(journal)
    path = folder / FILE
    try:
        write_atomically(path, page.encode())
    except OSError as error:
        raise JournalError(
            f"report {path} cannot be written: {error}",
            code="report.not-written",
            remedy="free some space or make the folder writable, then: fedpeft report " + run_argument(folder),
        ) from error
    return path


def _page(journal: Journal) -> str:
    events = list(journal.events())
    result, plan, history = summarise(journal), stored_plan(journal), read_history(events)
    version = next((str(e.payload["version"]) for e in reversed(events) if e.kind == EventKind.RUN_STARTED), "")
    figures: dict[str, Figure] = {}
    config, schedule = stored_config(journal), schedule_history(events)
    sorted_bytes, waits = bytes_by(events, config), completion_plot(schedule, config.round.deadline_s)
    parts = _body(result, plan, history, sorted_bytes, schedule, waits, journal.config_toml, version, figures)
    body = "\n".join(parts)
    return offline_page(result.name, body, figures)


def _body(
    result: RunResult,
    plan: RunPlan | None,
    history: History,
    sorted_bytes: BytesBy,
    schedule: ScheduleHistory,
    waits: Figure | None,
    config_toml: str,
    version: str,
    figures: dict[str, Figure],
) -> Iterator[str]:
    """The sections in order; adds to `figures` those that the page draws."""

    def figure(name: str, drawn: Figure | None, caption: str) -> str:
        if drawn is None:
            return ""
        figures[name] = drawn
        return plot_box(name, drawn, caption)

    yield sections.heading(result, plan, history, version)
    yield sections.headline(result)
    learning = "".join(
        figure(
            name if name == ACCURACY else f"metric{place}",
            metric_plot(history, name),
            f"{metric_label(name).capitalize()} on the coordinator's test set.",
        )
        for place, name in enumerate(metrics_of(history))
    )
    learning += figure(
        "loss", plots.loss_plot(history), "Loss on the test set, and the clients' own before and after local training."
    )
    learning += figure(
        "clock",
        clock_plot(history, result.metric),
        f"{metric_label(result.metric).capitalize()} against the time of the rounds: training and network.",
    )
    if learning:
        yield f'<section><h2>Learning</h2><div class="pair">{learning}</div></section>'
    yield "<section><h2>Bytes</h2>"
    yield sections.traffic_table(result)
    yield sections.bytes_tables(sorted_bytes)
    yield (
        '<div class="pair">'
        + figure(
            "bytes",
            plots.bytes_plot(history),
            "Each round, up from the clients and down to them. The last bar includes the greetings and the "
            "evaluations on the clients.",
        )
        + figure(
            "cumulative", plots.cumulative_plot(history), "Since the start: frames, and Flower's wire around them."
        )
        + "</div></section>"
    )
    split = plan.data_split if plan is not None else None
    if split is not None:
        drawn = figure("split", split_plot(split), split_caption(split))
        yield f"<section><h2>Data</h2>{drawn}</section>"
    clients = figure(
        "spread",
        spread_plot(history, result.metric),
        "The clients' own evaluations: their mean, and whom it hides.",
    ) + figure("clients", clients_plot(result), "Each client before and after the run.")
    if clients:
        yield f"<section><h2>Clients</h2>{client_tables.spread_table(result)}{clients}</section>"
    devices = figure(
        "devices",
        plots.devices_plot(history),
        "From asking to the reply, on the coordinator's clock; lines join each class's median.",
    )
    if devices:
        stale = figure(
            "staleness",
            staleness_plot(history),
            "How old the updates of a round are: commits since they were asked for.",
        )
        heard = sections.participation_table(history)
        more = sections.ranks_table(history) + sections.forms_table(history)
        yield f"<section><h2>Devices</h2>{heard}{more}{devices}{stale}</section>"
    oracle = plan.oracle if plan is not None else {}
    arms = figure("arms", arms_plot(schedule), "Which arm each client got.")
    if arms:
        curves = figure(
            "regret",
            regret_plot(schedule, oracle),
            "Reward missed so far against the arms that were best in hindsight, by their mean reward in this run, and "
            "against the oracle's where this run tried them.",
        ) + figure(
            "completion",
            waits,
            "A synchronous round lasts as long as its slowest client; one that was given up counts with the deadline.",
        )
        heard = sections.schedule_table(schedule, oracle)
        yield f'<section><h2>Scheduler</h2>{heard}{arms}<div class="pair">{curves}</div></section>'
    yield f"<section><h2>Incidents</h2>{sections.incidents_table(history)}</section>"
    if plan is not None:
        yield f"<section><h2>Plan</h2>{sections.plan_section(plan)}</section>"
    yield f"<section><h2>Repeat it</h2>{sections.repeat_section(result, config_toml)}</section>"
