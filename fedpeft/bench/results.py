"""What was measured, as a file: one JSON document whose every entry says when, where and of which commit it is.

A folder holds `latest.json`, with the last measurement of each subject whenever it was taken, and one file for each
call of `fedpeft bench`, named by its time.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryFile
from typing import Literal

from pydantic import TypeAdapter, ValidationError

from fedpeft.bench.figure import Figure
from fedpeft.bench.machine import Machine
from fedpeft.errors import DataError
from fedpeft.paths import write_atomically

LATEST = "latest.json"


@dataclass(frozen=True, slots=True)
class Measurement:
    """One subject, measured once."""

    subject: str
    about: str  # the first line of its docstring
    began: datetime  # with its time zone
    seconds: float  # that it took
    quick: bool  # fewer repeats: the figures show that it works, and little more
    commit: str  # of the checkout; empty outside of one
    machine: Machine
    figures: tuple[Figure, ...]
    failure: str = ""  # why there are no figures, or not all
    given: str = ""  # options that say what was measured, e.g. `--delta FILE`

    @property
    def busy(self) -> str:
        """A warning when others were at work on the machine; empty when not. A run's own load counts for one."""
        machine = self.machine
        if machine.load <= machine.cores + 0.5:
            return ""
        return (
            f"load {machine.load:g} on {machine.cores} cores at the start: trust ratios of CPU time only, no wall time"
        )


@dataclass(frozen=True, slots=True)
class Results:
    """Measurements, at most one of a subject, in the order in which they are shown."""

    measurements: tuple[Measurement, ...] = ()
    format: Literal[1] = 1

    def get(self, subject: str) -> Measurement | None:
        """The measurement of a subject."""
        return next((item for item in self.measurements if item.subject == subject), None)

    def merged(self, newer: Results) -> Results:
        """These, with those of `newer` in the place of their elders; a subject that failed replaces nothing."""
        fresh = {item.subject: item for item in newer.measurements if not item.failure or not self.get(item.subject)}
        kept = tuple(fresh.pop(item.subject, item) for item in self.measurements)
        return Results(kept + tuple(fresh.values()))


_ADAPTER = TypeAdapter(Results)


def dump(results: Results) -> bytes:
    """The document, UTF-8, with a line a value: it is read in diffs."""
    return _ADAPTER.dump_json(results, indent=1) + b"\n"


def load(path: Path) -> Results:
    """Read a document.

    Raises:
        DataError: it cannot be read, or is none.
    """
    try:
        return _ADAPTER.validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
        reason = str(error) if isinstance(error, OSError) else f"{error.error_count()} values are not as expected"
        raise DataError(
            f"{path} cannot be read as benchmark results: {reason}",
            code="bench.unreadable",
            allowed="a file that `fedpeft bench` wrote",
            remedy=f"move {path} away and measure again",
        ) from error


def load_latest(folder: Path) -> Results:
    """The last measurement of each subject; nothing where nothing was ever measured.

    Raises:
        DataError: what is there cannot be read.
    """
    path = folder / LATEST
    return load(path) if path.exists() else Results()


def save(folder: Path, results: Results) -> tuple[Path, Results]:
    """Write a file of its own for `results`, and put them into the latest.

    Returns:
        the file, and the latest as it is now.

    Raises:
        DataError: the latest cannot be read, or the folder cannot be written.
    """
    latest = load_latest(folder).merged(results)
    began = max((item.began for item in results.measurements), default=datetime.now().astimezone())
    path = folder / f"{began:%Y%m%d-%H%M%S}.json"
    with _writing(folder):
        write_atomically(path, dump(results))
        write_atomically(folder / LATEST, dump(latest))
    return path, latest


def check_writable(folder: Path) -> None:
    """Make the folder and write into it, to be told of trouble before an hour of measuring.

    Raises:
        DataError: it cannot be written.
    """
    with _writing(folder), TemporaryFile(dir=folder) as trial:
        trial.write(b"written")


@contextmanager
def _writing(folder: Path) -> Iterator[None]:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        yield
    except OSError as error:
        raise DataError(
            f"{folder} cannot be written: {error}",
            code="bench.not-written",
            remedy="free some space, or name another folder with --folder",
        ) from error
