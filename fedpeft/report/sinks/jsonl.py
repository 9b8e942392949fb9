"""`points.jsonl` in the run's folder: one JSON object a point, for scripts and log shippers."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from fedpeft.report.points import Point

FILE = "points.jsonl"


class JsonLinesSink:
    """One line a point, written through at once."""

    def __init__(self, folder: Path, run: str) -> None:
        self._run = run
        self._file = (folder / FILE).open("w", encoding="utf-8")

    def write(self, points: Sequence[Point]) -> None:
        """See `Sink.write`."""
        for point in points:
            self._file.write(json.dumps({"run": self._run, **asdict(point)}) + "\n")
        self._file.flush()

    def close(self) -> None:
        """See `Sink.close`."""
        self._file.close()
