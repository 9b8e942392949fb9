"""What moves while a run goes on: one bar with time left, accuracy and bytes; without a terminal, one line a round."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TaskProgressColumn, TextColumn
from rich.text import Text

from fedpeft.journal import Event, EventKind, Headline, Journal
from fedpeft.journal.headline import ACCURACY
from fedpeft.report.history import INCIDENTS, describe
from fedpeft.report.summary import BYTE_KEYS
from fedpeft.report.summary import Progress as Done
from fedpeft.report.units import bytes_text, metric_label, metric_text, seconds_text

_APART = {"centralised"}
"""Phases that count their own work; all others share one count from zero-shot to export."""


class Screen:
    """Watches a run: pass `observe` as its observer and `progress` as its `on_progress`.

    Args:
        console: where to; a bar if it is a terminal, plain lines if not.
        rounds: of the run file.
        resumed_from: folder of the run that goes on: its bytes and its metric are the first to be shown.
    """

    def __init__(self, console: Console, rounds: int, resumed_from: Path | None = None) -> None:
        self.console = console
        self.rounds = rounds
        self.headline: Headline | None = None  # known from the first evaluation on
        self.value: float | None = None  # of the headline metric
        self._plan: list[Event] = []  # the event that says what the task is judged by
        self.moved = dict.fromkeys(BYTE_KEYS, 0)
        self.incidents: Counter[str] = Counter()  # in the round that is open
        self.line = ""  # of the round that was committed, until its accuracy is known
        self.committed: int | None = None
        self.apart = False
        if resumed_from is not None:
            with Journal.read(resumed_from) as journal:
                for event in journal.events():
                    self._count(event)
        self.bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=None),
            TaskProgressColumn(),
            _TimeLeft(),
            TextColumn("{task.fields[value]}"),
            TextColumn("{task.fields[moved]}"),
            console=console,
            disable=not console.is_terminal,
            transient=True,
            expand=True,
        )
        self.task = self.bar.add_task("loading model and data", total=None, **self._figures())

    def __enter__(self) -> Self:
        """Show the bar, moving but without an end until work is counted: model and data are being loaded."""
        self.bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._flush()
        self.bar.stop()

    def observe(self, event: Event) -> None:
        """Take one event of the journal."""
        self._count(event)
        if event.kind in INCIDENTS:
            self._incident(event)
        match event.kind:
            case EventKind.COMMITTED if event.round:
                self._flush()
                self.committed = event.round
                moved = "".join(
                    f", {bytes_text(event.payload.get(f'frame_{direction}', 0))} {direction}"
                    for direction in ("up", "down")
                )
                troubles = "".join(f", {count} {kind}" for kind, count in self.incidents.items())
                self.incidents.clear()
                self.line = (
                    f"round {event.round} of {self.rounds}: {event.payload['accepted']} replies{troubles}{moved}"
                )
            case EventKind.EVALUATED if event.payload["split"] == "test":
                whole = event.payload.get("whole", True)
                told = self._judged() if whole else f"{self._judged()} on the sample"
                if event.round == self.committed and self.line:
                    self.line += f", {told}"
                elif event.round == 0:
                    self.line = f"zero-shot: {told}"
                elif whole:
                    self.line = f"the whole test set: {told}"
                self._flush()
            case EventKind.CLIENTS_EVALUATED:
                self._flush()
                self.line = self._of_clients(event)
                self._flush()
            case EventKind.STOPPED:
                self._flush()
                self.console.print(f"stopped early: {event.payload['reason']}", style="yellow", soft_wrap=True)
            case EventKind.ROUND_OPENED:
                self._flush()
        if not self.bar.finished:
            self.bar.update(self.task, **self._figures())

    def progress(self, done: Done) -> None:
        """Move the bar."""
        if self.bar.disable:
            return
        apart = done.phase in _APART
        if apart != self.apart:  # another count of work: the speed so far says nothing about it
            self.apart = apart
            self.bar.reset(self.task)
        self.bar.update(self.task, description=done.text, completed=done.done, total=done.total or None)

    def _count(self, event: Event) -> None:
        if event.kind in (EventKind.COMMITTED, EventKind.RUN_FINISHED):
            for key in BYTE_KEYS:
                self.moved[key] += event.payload.get(key, 0)
        elif event.kind == EventKind.RUN_STARTED:
            self._plan = self._plan or [event]
        elif event.kind == EventKind.EVALUATED and event.payload["split"] == "test":
            self.headline = self.headline or Headline.of_events([*self._plan, event])
            self.value = self.headline.value(event.payload)

    def _figures(self) -> dict[str, Any]:
        value = "" if self.value is None else self._judged().removeprefix("accuracy ")
        moved = self.moved["frame_up"] + self.moved["frame_down"]
        return {"value": value, "moved": bytes_text(moved) if moved else ""}

    def _of_clients(self, event: Event) -> str:
        """`clients: mean accuracy 84.3 %, worst tenth 61.0 %`; empty where they did not measure the headline."""
        group = "tuned" if "tuned" in event.payload else "clients"
        spreads = event.payload[group]
        headline = self.headline or Headline.of(dict.fromkeys(spreads, 0.0))
        spread = spreads.get(headline.name)
        if spread is None:
            return ""
        mean, worst = (metric_text(headline.name, spread[key]) for key in ("mean", "worst"))
        who = "clients after own steps" if group == "tuned" else "clients"
        return f"{who}: mean {metric_label(headline.name)} {mean}, worst tenth {worst}"

    def _judged(self) -> str:
        """`accuracy 84.3 %`."""
        name = self.headline.name if self.headline is not None else ACCURACY
        return f"{metric_label(name)} {metric_text(name, self.value)}"

    def _incident(self, event: Event) -> None:
        """A line of its own above the bar; without a bar it is counted in the round's line."""
        if event.round is not None and not self.console.is_terminal and event.kind != EventKind.ROUND_SHORT:
            self.incidents[INCIDENTS[event.kind]] += 1
            return
        where = f"round {event.round}: " if event.round is not None else ""
        who = f"client {event.client} " if event.client is not None else ""
        self.console.print(f"{where}{who}{INCIDENTS[event.kind]}: {describe(event)}", style="yellow", soft_wrap=True)

    def _flush(self) -> None:
        """Without a terminal: the line of the last committed round, now that nothing more will be said of it."""
        if self.line and not self.console.is_terminal:
            self.console.print(self.line, soft_wrap=True)
        self.line = ""


class _TimeLeft(ProgressColumn):
    """`2 min 5 s left`, from the speed of the last half minute."""

    def render(self, task: Task) -> Text:
        left = task.time_remaining
        return Text("" if left is None else f"{seconds_text(left)} left", style="progress.remaining")
