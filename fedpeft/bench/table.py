"""A measurement on the screen: a line a figure, a line a comparison, in 80 columns."""

from __future__ import annotations

from collections.abc import Iterator

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from fedpeft.bench.figure import Figure, Verdict, verdicts
from fedpeft.bench.results import Measurement

MISSING = "–"
_NAMES = 28  # columns of the first column: tables below each other line up
_STYLES = {"met": "green", "missed": "bold red", MISSING: "dim"}


def measurement_table(measurement: Measurement) -> RenderableType:
    """One subject."""
    title = Text.assemble((measurement.subject, "bold"), " — ", measurement.about)
    if measurement.given:
        title.append(f" ({measurement.given})")
    parts: list[RenderableType] = [title]
    if measurement.failure:
        parts.append(Text(f"failed: {measurement.failure}", style="red"))
    if measurement.busy:
        parts.append(Text(measurement.busy, style="yellow"))
    judged = verdicts(measurement.figures)
    for group in dict.fromkeys(figure.group for figure in measurement.figures):
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="dim", show_edge=False, padding=(0, 1))
        table.add_column(overflow="fold", min_width=_NAMES)
        for head in ("figure", "target", "ratio", ""):
            table.add_column(head, justify="right", no_wrap=True)
        for figure in measurement.figures:
            if figure.group == group:
                for row in figure_rows(figure, judged):
                    word = Text(row[4], style=_STYLES.get(row[4], ""))
                    table.add_row(Text(row[0], style=_style(figure)), *row[1:4], word)
        parts += ["", *([Text(group, style="bold")] if group else []), table]
    told = dict.fromkeys(f"{figure.name}: {figure.note}" for figure in measurement.figures if figure.note)
    told |= dict.fromkeys(
        f"{verdict.figure.name}, missed: {verdict.goal.why}"
        for verdict in judged
        if verdict.met is False and verdict.goal.why
    )
    if told:
        parts += ["", *(Text(line, style="dim") for line in told)]
    return Group(*parts, "")


def figure_rows(figure: Figure, judged: list[Verdict]) -> Iterator[tuple[str, str, str, str, str]]:
    """The lines of one figure: name, figure, target, ratio, verdict; page and screen show the same."""
    own = [verdict for verdict in judged if verdict.figure is figure]
    alone = next((verdict for verdict in own if not verdict.goal.against), None)
    yield figure.name, value_text(figure), _target(figure, alone), "", _word(alone)
    for verdict in own:
        if verdict.goal.against:
            ratio = MISSING if verdict.ratio is None else f"{number_text(verdict.ratio)}×"
            yield f"  against {verdict.goal.against}", "", _target(figure, verdict), ratio, _word(verdict)


def value_text(figure: Figure) -> str:
    """The median with its unit and, from several samples, half the distance of the quartiles: `132 ±1.2 % ms`."""
    if figure.value is None:
        return MISSING
    scatter = "" if figure.spread is None else f" ±{100 * figure.spread:.1f} %"
    return f"{number_text(figure.value)} {figure.unit}{scatter}"


def number_text(value: float) -> str:
    """Three significant digits: `0.0182`, `1.96`, `132`, `12 900`."""
    if value == 0:
        return "0"
    if abs(value) >= 999.5:
        return f"{round(value):,}".replace(",", "\N{NARROW NO-BREAK SPACE}")
    return f"{value:#.3g}".rstrip(".")


def _target(figure: Figure, verdict: Verdict | None) -> str:
    if verdict is None or verdict.goal.at is None:
        return ""
    if verdict.goal.against:
        return f"≥ {verdict.goal.at:g}×"
    return f"{'≤' if figure.better == 'lower' else '≥'} {verdict.goal.at:g} {figure.unit}"


def _word(verdict: Verdict | None) -> str:
    if verdict is None or verdict.goal.at is None:
        return ""
    return MISSING if verdict.met is None else "met" if verdict.met else "missed"


def _style(figure: Figure) -> str:
    return {"own": "bold", "peer": "", "limit": "dim"}[figure.role]
