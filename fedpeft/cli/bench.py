"""`fedpeft bench [NAMES]`: measure fedpeft against its peers and the machine's limits; tables, JSON and one page."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fedpeft.cli.output import Format, FormatOption, console, print_json

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress

    from fedpeft.bench.compare import Change
    from fedpeft.bench.results import Measurement
    from fedpeft.bench.subjects import Subject

FOLDER = Path("benchmarks")


def bench(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[NAMES]...", help="Subjects, or files of your own; default: all.")
    ] = None,
    list_: Annotated[bool, typer.Option("--list", help="List the subjects and measure nothing.")] = False,
    quick: Annotated[bool, typer.Option("--quick", help="Fewer repeats: to see that all of it works.")] = False,
    folder: Annotated[Path, typer.Option("--folder", help="Where results and page are kept.")] = FOLDER,
    peers: Annotated[
        bool, typer.Option("--peers/--no-peers", help="Measure peers too; the first time installs them in a cache.")
    ] = True,
    delta: Annotated[
        Path | None, typer.Option("--delta", metavar="FILE", help="For codecs: a saved delta, .npy or .safetensors.")
    ] = None,
    since: Annotated[
        Path | None,
        typer.Option("--since", metavar="FILE", help="With --delta: values before; both may be adapters' folders."),
    ] = None,
    format: FormatOption = Format.TEXT,
) -> None:
    """Measure fedpeft against its peers and the limits of this machine; writes benchmarks/benchmarks.html."""
    from fedpeft.bench.subjects import find_subjects

    subjects = find_subjects(names or ())
    if list_:
        _list(subjects, format)
        return
    given = _check_delta(subjects, delta, since)
    from fedpeft.bench.compare import changes
    from fedpeft.bench.page import write_page
    from fedpeft.bench.results import Results, check_writable, load_latest, save
    from fedpeft.bench.session import measure_subject

    place = folder / "quick" if quick else folder  # a quick run never stands in for a whole one
    before = load_latest(place)  # read first: a file that is not ours is told before an hour of measuring
    check_writable(place)
    out = console(stderr=format is Format.JSON)
    measured: list[Measurement] = []
    changed: list[Change] = []
    if peers:
        _build_peers(out, subjects)
    with _bar(out) as bar:
        task = bar.add_task("", total=len(subjects))
        for subject in subjects:

            def tell(what: str, name: str = subject.name) -> None:
                bar.update(task, description=f"{name}: {what}")

            tell("starts")
            measured.append(measure_subject(subject, quick=quick, peers=peers, given=given, on_say=tell))
            elder = before.get(subject.name)
            moved = changes(elder, measured[-1]) if elder is not None else []
            changed += moved
            _show(out, measured[-1], elder, moved)
            bar.advance(task)
    path, latest = save(place, Results(tuple(measured)))
    page = write_page(place, latest, changed)
    if format is Format.JSON:
        print_json({"results": str(path), "page": str(page), "worse": [item.text() for item in changed if item.worse]})
    else:
        out.print(f"results  {path}\npage     {page}")
    if any(item.failure for item in measured):
        raise typer.Exit(1)


def _check_delta(subjects: Sequence[Subject], delta: Path | None, since: Path | None) -> dict[str, Path]:
    """The options to pass on; what is wrong with them is told before anything is measured."""
    from fedpeft.errors import ConfigError

    if delta is None:
        if since is not None:
            raise ConfigError(
                f"--since {since} without --delta",
                code="bench.since",
                allowed="--delta AFTER --since BEFORE",
                remedy="name the values after with --delta",
            )
        return {}
    if not any("delta" in subject.takes for subject in subjects):
        raise ConfigError(
            f"--delta {delta}: none of {', '.join(subject.name for subject in subjects)} takes a delta",
            code="bench.no-delta",
            allowed="a subject whose measure() has an argument delta: codecs",
            remedy=f"fedpeft bench codecs --delta {delta}",
        )
    from fedpeft.bench.saved_delta import read_delta

    read_delta(delta, since)
    return {"delta": delta} | ({"since": since} if since is not None else {})


def _list(subjects: Sequence[Subject], format: Format) -> None:
    if format is Format.JSON:
        print_json([{"name": item.name, "about": item.about, "peers": list(item.peers)} for item in subjects])
        return
    from rich.table import Table
    from rich.text import Text

    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True, style="bold")
    table.add_column(overflow="fold")
    for item in subjects:
        beside = f" (peers: {', '.join(item.peers)})" if item.peers else ""
        table.add_row(Text(item.name), Text(item.about + beside))
    console().print(table)


def _build_peers(out: Console, subjects: Sequence[Subject]) -> None:
    """Build what is not there yet; one that cannot be built is told, and the rest goes on without it."""
    from fedpeft.bench.peers import PeerMissing, Peers

    wanted = dict.fromkeys((name, item.path.parent / "peers") for item in subjects for name in item.peers)
    for name, folder in wanted:
        peers = Peers(folder)
        try:
            if peers.ready(name):
                continue
            with _bar(out) as bar:
                bar.add_task(f"installing {name} (once) into {peers.home(name)}", total=None)
                peers.build(name)
        except PeerMissing as error:
            out.print(f"{name}: {error}", style="yellow")


@contextmanager
def _bar(out: Console) -> Iterator[Progress]:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=out, transient=True) as bar:
        yield bar


def _show(out: Console, now: Measurement, elder: Measurement | None, moved: Sequence[Change]) -> None:
    from fedpeft.bench.compare import comparable
    from fedpeft.bench.table import measurement_table

    out.print(measurement_table(now))
    for change in moved:
        out.print(change.text(), style="bold red" if change.worse else "green")
    if elder is not None and not moved:
        why = comparable(elder, now)
        then = f"the measurement of {elder.began:%Y-%m-%d %H:%M}"
        out.print(f"not compared with {then}: {why}" if why else f"as in {then}, within the spread", style="dim")
    out.print()
