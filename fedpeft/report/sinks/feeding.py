"""From the journal to the sinks of a run file: each is filled from the first event on, at every start of the run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec

from fedpeft.errors import ConfigError, PluginError
from fedpeft.journal import Event, Journal
from fedpeft.registry import load
from fedpeft.report.points import PointReader
from fedpeft.report.sinks.contract import Sink


def check_sinks(names: Sequence[str]) -> None:
    """Find every sink, and what it needs, before anything slow is loaded.

    Raises:
        PluginError: there is none of a name, or it is no sink.
        ConfigError: an optional dependency is missing; names the extra that brings it.
    """
    for name in names:
        sink = load("sink", name)
        lacking = [method for method in ("write", "close") if not callable(getattr(sink, method, None))]
        if lacking:
            raise PluginError(
                f'report.sinks: "{name}" has no method {" and no ".join(lacking)}',
                code="plugin.not-a-sink",
                allowed="a class with the methods of fedpeft.report.sinks.Sink",
                remedy="add what it lacks, or name another class",
            )
        module, extra = getattr(sink, "needs", ("", ""))
        if module and find_spec(module) is None:
            raise ConfigError(
                f'report.sinks: "{name}" needs the package {module}, which is not installed',
                code="config.missing-extra",
                allowed="any sink whose packages are there",
                remedy=f"pip install 'fedpeft[{extra}]', or remove \"{name}\" from report.sinks",
            )


class Feed:
    """An observer of the journal that feeds the sinks of a run.

    Args:
        names: of the sinks.
        journal: what it holds already is fed at once.
    """

    def __init__(self, names: Sequence[str], journal: Journal) -> None:
        self.troubles: list[str] = []  # one sentence for each sink that failed
        self._reader = PointReader()
        self._sinks: dict[str, Sink] = {}
        for name in names:
            try:
                self._sinks[name] = load("sink", name)(journal.folder, journal.run)
            except Exception as error:  # a sink may raise anything: it costs the sink, never the run
                self._trouble(name, error)
        if self._sinks:
            for event in journal.events():
                self.observe(event)

    def observe(self, event: Event) -> None:
        """Take one event."""
        points = self._reader.read(event)
        for name, sink in list(self._sinks.items()) if points else ():
            try:
                sink.write(points)
            except Exception as error:
                self._trouble(name, error)

    def close(self) -> None:
        """Close all sinks."""
        for name, sink in list(self._sinks.items()):
            try:
                sink.close()
            except Exception as error:
                self._trouble(name, error)
        self._sinks.clear()

    def _trouble(self, name: str, error: Exception) -> None:
        self._sinks.pop(name, None)
        self.troubles.append(f'report.sinks: "{name}" ended: {type(error).__name__}: {error}')


@contextmanager
def feeding(names: Sequence[str], journal: Journal) -> Iterator[Feed]:
    """Feed the sinks as long as the block lasts; nothing is done where there are none."""
    feed = Feed(names, journal)
    if names:
        journal.subscribe(feed.observe)
    try:
        yield feed
    finally:
        feed.close()


__all__ = ["Feed", "check_sinks", "feeding"]
