"""`points.csv` in the run's folder: step, name, value, time; for spreadsheets and data frames."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

from fedpeft.report.points import Point

FILE = "points.csv"


class CsvSink:
    """One line a point, written through at once."""

    def __init__(self, folder: Path, run: str) -> None:
        self._file = (folder / FILE).open("w", newline="", encoding="utf-8")
        self._writer = csv.writer(self._file)
        self._writer.writerow(["step", "name", "value", "unix_seconds"])

    def write(self, points: Sequence[Point]) -> None:
        """See `Sink.write`."""
        self._writer.writerows([point.step, point.name, repr(point.value), f"{point.at:.3f}"] for point in points)
        self._file.flush()

    def close(self) -> None:
        """See `Sink.close`."""
        self._file.close()
