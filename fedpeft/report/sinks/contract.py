"""What a sink is: somewhere else to look at a run's figures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from fedpeft.report.points import Point


class Sink(Protocol):
    """The contract of a sink (registry kind `sink`). One of one's own, in a file that a run file names:

    >>> class Loudspeaker:
    ...     def __init__(self, folder, run):
    ...         print("listening to", run)
    ...     def write(self, points):
    ...         for point in points:
    ...             print(point.step, point.name, point.value)
    ...     def close(self):
    ...         print("that was it")
    >>> sink = Loudspeaker(Path("runs/demo"), "demo")
    listening to demo
    >>> sink.write([Point(3, "test/accuracy", 0.5, at=0.0)])
    3 test/accuracy 0.5

    A sink is made anew whenever the run starts or goes on, and is then given all points from the first on. Its
    constructor must forget what an earlier session wrote, and nothing is there twice. What it raises ends the sink,
    never the run. A class may have an attribute `needs = ("module", "extra")`: an optional dependency, and the extra of
    fedpeft that brings it, looked for before anything is trained.
    """

    def __init__(self, folder: Path, run: str) -> None:
        """Begin: `folder` is the run's, and is there; `run` its name."""

    def write(self, points: Sequence[Point]) -> None:
        """Take the points of one event; they may be kept back until `close`."""

    def close(self) -> None:
        """The run is over, or interrupted by an error."""
