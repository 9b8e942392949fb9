"""A benchmark file as a command: `python FILE [--quick] [--json FILE]` measures and prints its table.

What its `measure` takes beside `quick`, e.g. `delta: Path | None = None`, is an option of that name: `--delta FILE`.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from pathlib import Path

from fedpeft.bench.figure import Figure, verdicts
from fedpeft.bench.machine import commit_of, this_machine
from fedpeft.bench.results import Measurement, Results, dump
from fedpeft.bench.subjects import Subject, read_subject
from fedpeft.paths import write_atomically

SAYING = "· "
"""Begins a line on stderr that tells what is being measured now."""


def say(what: str) -> None:
    """Tell what is being measured now; `fedpeft bench` shows it beside its bar."""
    print(SAYING + what, file=sys.stderr, flush=True)  # noqa: T201 - a benchmark speaks on stderr


def main(file: str, measure: Callable[..., Iterable[Figure]], arguments: Sequence[str] | None = None) -> int:
    """Run a benchmark file's own command line; returns the exit status, 1 when it failed.

    What was measured before a failure is kept, so a `measure` that takes long had better yield its figures.

    Args:
        file: its `__file__`.
        measure: its `measure`.
        arguments: without the program's name; default: those of this process.
    """
    subject = read_subject(Path(file)) or Subject(Path(file).stem, Path(file), "")
    parser = argparse.ArgumentParser(description=subject.about)
    parser.add_argument("--quick", action="store_true", help="fewer repeats: to see that it works")
    parser.add_argument("--json", type=Path, help="write the measurement to this file instead of printing it")
    for name in subject.takes:
        parser.add_argument(f"--{name}", type=Path, metavar="FILE", help="see the benchmark's docstring")
    options = parser.parse_args(arguments)
    given = {name: path for name in subject.takes if (path := getattr(options, name)) is not None}
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is imported: two threads beside a busy one crawl
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    machine, began, clock = this_machine(), datetime.now().astimezone(), time.monotonic()
    figures: list[Figure] = []
    failure = ""
    try:
        for figure in measure(options.quick, **given):
            figures.append(figure)
        _check(figures)
    except Exception as error:
        traceback.print_exc()
        failure = " ".join(f"{type(error).__name__}: {error}".split())
    measured = Measurement(
        subject=subject.name,
        about=subject.about,
        began=began,
        seconds=round(time.monotonic() - clock, 1),
        quick=options.quick,
        commit=commit_of(subject.path.resolve().parent),
        machine=machine,
        figures=tuple(figures),
        failure=failure,
        given=given_text(given),
    )
    status = 1 if failure else 0
    if options.json is not None:
        write_atomically(options.json, dump(Results((measured,))))
        return status
    from rich.console import Console

    from fedpeft.bench.table import measurement_table

    Console(markup=False, emoji=False, highlight=False).print(measurement_table(measured))
    return status


def given_text(given: Mapping[str, Path]) -> str:
    """Options as they were given: `--delta FILE`."""
    return " ".join(f"--{name} {path}" for name, path in given.items())


def _check(figures: list[Figure]) -> None:
    """A goal that names no figure is the author's mistake: it is told at once, and nothing is shown of such figures."""
    try:
        verdicts(figures)
    except ValueError:
        figures.clear()
        raise
