"""All measurements as one HTML file that works offline: what was met, what was missed, a plot a group, the machine."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape
from pathlib import Path

from fedpeft.bench.compare import Change
from fedpeft.bench.figure import Figure, Verdict, verdicts
from fedpeft.bench.machine import Machine
from fedpeft.bench.plot import bars
from fedpeft.bench.results import Measurement, Results
from fedpeft.bench.scatter import points
from fedpeft.bench.table import figure_rows, number_text
from fedpeft.errors import DataError
from fedpeft.paths import write_atomically
from fedpeft.report.figure import Figure as Drawn
from fedpeft.report.offline import offline_page, plot_box

FILE = "benchmarks.html"


def write_page(folder: Path, results: Results, changed: Sequence[Change] = ()) -> Path:
    """Write `benchmarks.html` into a folder, about 5 MB, most of it Plotly's own script.

    Args:
        folder: exists.
        results: what to show.
        changed: against the measurements before these.

    Returns:
        the file.

    Raises:
        DataError: it cannot be written.
    """
    path = folder / FILE
    drawn: dict[str, Drawn] = {}
    body = "\n".join(_body(results, changed, drawn))
    try:
        write_atomically(path, offline_page("Benchmarks", body, drawn).encode())
    except OSError as error:
        raise DataError(
            f"{path} cannot be written: {error}",
            code="bench.not-written",
            remedy="free some space, or name another folder with --folder",
        ) from error
    return path


def _body(results: Results, changed: Sequence[Change], drawn: dict[str, Drawn]) -> Iterator[str]:
    judged = [(item, verdict) for item in results.measurements for verdict in verdicts(item.figures)]
    sought = [(item, verdict) for item, verdict in judged if verdict.goal.at is not None]
    met = sum(verdict.met is True for _, verdict in sought)
    missed = [(item, verdict) for item, verdict in sought if verdict.met is False]
    unknown = len(sought) - met - len(missed)
    yield '<header><h1>Benchmarks</h1><p class="soft">fedpeft against its peers and the limits of the machine, '
    yield "measured in the same run. Medians; ± is half the distance of the quartiles. In the plots a stroke on a "
    yield "bar is its target, a dashed line a limit of the machine.</p></header>"
    yield '<div class="tiles">'
    tiles = {"targets met": (met, ""), "missed": (len(missed), ""), "not measured": (unknown, "a part is missing")}
    for name, (count, note) in tiles.items():
        yield (
            f'<div class="tile"><div class="name">{name}</div>'
            f'<div class="value">{count} <small>of {len(sought)}</small></div>'
            f'<div class="note soft">{note if count else ""}</div></div>'
        )
    yield "</div>"
    if any(item.quick for item in results.measurements):
        yield '<p class="state">Quick: few repeats. These figures show that the benchmarks work, no more.</p>'
    if missed:
        yield "<section><h2>Missed</h2><ul>"
        yield "".join(f"<li>{escape(_sentence(item, verdict))}</li>" for item, verdict in missed)
        yield "</ul></section>"
    if changed:
        yield "<section><h2>Against the measurements before</h2><ul>"
        yield "".join(f"<li>{escape(change.text())}</li>" for change in changed)
        yield "</ul></section>"
    for item in results.measurements:
        yield from _subject(item, drawn)
    yield from _machines(results)
    yield (
        "<section><h2>Repeat it</h2><pre>git clone … &amp;&amp; cd fedpeft\nmake bench</pre>"
        "<p>or one of them: <code>fedpeft bench NAME</code>; <code>--list</code> tells which there are.</p>"
        "</section>"
    )


def _subject(item: Measurement, drawn: dict[str, Drawn]) -> Iterator[str]:
    yield f"<section><h2>{escape(item.subject)}</h2><p>{escape(item.about)}</p>"
    if item.given:
        yield f"<p>Given: <code>{escape(item.given)}</code></p>"
    if item.failure:
        yield f'<p class="state">Failed: {escape(item.failure)}</p>'
    if item.busy:
        yield f'<p class="state">{escape(item.busy[0].upper() + item.busy[1:])}.</p>'
    judged = verdicts(item.figures)
    groups = dict.fromkeys(figure.group for figure in item.figures)
    plots = ""
    for place, group in enumerate(groups):
        shown = [figure for figure in item.figures if figure.group == group]
        plot = points(shown) if any(figure.across for figure in shown) else bars(shown)
        if plot is not None:
            name = f"{item.subject}-{place}"
            drawn[name] = plot
            plots += plot_box(name, plot, group or item.subject)
    if plots:
        yield f'<div class="pair">{plots}</div>'
    yield '<div class="scroll"><table><thead><tr><th>figure</th><th class="number">median</th>'
    yield '<th class="number">target</th><th class="number">ratio</th><th>verdict</th><th>note</th></tr></thead><tbody>'
    for group in groups:
        if group:
            yield f'<tr><th colspan="6" class="soft">{escape(group)}</th></tr>'
        for figure in item.figures:
            if figure.group == group:
                yield from _rows(figure, judged)
    yield f"</tbody></table></div><p class='soft'>{escape(_when(item))}</p></section>"


def _rows(figure: Figure, judged: list[Verdict]) -> Iterator[str]:
    for place, (name, value, target, ratio, word) in enumerate(figure_rows(figure, judged)):
        title = f"<strong>{escape(name)}</strong>" if figure.role == "own" and place == 0 else escape(name)
        if place:
            title = f'<span class="soft">{title}</span>'
        mark = f'<span class="state">{word}</span>' if word == "missed" else escape(word)
        yield (
            f'<tr><td>{title}</td><td class="number">{escape(value)}</td><td class="number">{escape(target)}</td>'
            f'<td class="number">{escape(ratio)}</td><td>{mark}</td>'
            f'<td class="text soft">{escape(figure.note) if place == 0 else ""}</td></tr>'
        )


def _machines(results: Results) -> Iterator[str]:
    """Once where all were measured on one machine and software."""
    yield "<section><h2>Machine</h2>"
    groups: dict[tuple[object, ...], tuple[Machine, list[str]]] = {}
    for item in results.measurements:
        machine = item.machine
        key = (machine.processor, machine.cores, machine.python, tuple(sorted(machine.versions.items())))
        groups.setdefault(key, (machine, []))[1].append(item.subject)
    for machine, names in groups.values():
        if len(groups) > 1:
            yield f"<p>{escape(', '.join(names))}</p>"
        versions = ", ".join(f"{name} {number}" for name, number in machine.versions.items())
        facts = (
            ("processor", f"{machine.processor}, {machine.cores} cores"),
            ("memory", f"{machine.memory_gb} GB"),
            ("system", f"{machine.system}, Python {machine.python}"),
            ("versions", versions),
        )
        yield "<dl>" + "".join(f"<dt>{name}</dt><dd>{escape(value)}</dd>" for name, value in facts) + "</dl>"
    yield "</section>"


def _when(item: Measurement) -> str:
    commit = f", commit {item.commit.rstrip('+')}" if item.commit else ""
    commit += " with changes" if item.commit.endswith("+") else ""
    took = f"took {item.seconds:.0f} s, load {item.machine.load:g} at its start"
    return f"Measured {item.began:%Y-%m-%d %H:%M %Z}{commit}; {took}{'; quick' if item.quick else ''}."


def _sentence(item: Measurement, verdict: Verdict) -> str:
    figure, goal = verdict.figure, verdict.goal
    where = f"{item.subject}: {figure.group + ', ' if figure.group else ''}{figure.name}"
    why = f" ({goal.why})" if goal.why else ""
    if goal.against:
        return f"{where}: {number_text(verdict.ratio or 0.0)}× against {goal.against}, wanted {goal.at:g}×{why}"
    return f"{where}: {number_text(figure.value or 0.0)} {figure.unit}, wanted {goal.at:g} {figure.unit}{why}"
