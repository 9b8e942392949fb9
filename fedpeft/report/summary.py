"""What a person wants to know of a run, as plain data: the plan before it, the progress in it, the result after it.

`summarise` reads a result from the journal alone, so that the screen after a run, `fedpeft show` and the report can
never disagree. Nothing here loads torch.
"""

from __future__ import annotations

import dataclasses
import math
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeAlias

from fedpeft.config import RunConfig, parse_config
from fedpeft.data.split import DataSplit
from fedpeft.journal import Event, EventKind, Headline, Journal, Spread, measured, spreads
from fedpeft.journal.headline import ACCURACY
from fedpeft.report.evaluations import client_measurements, whole_evaluations
from fedpeft.types import ClientId

Phase: TypeAlias = Literal["zero-shot", "round", "evaluating", "centralised", "exporting"]

BYTE_KEYS = ("frame_up", "frame_down", "wire_up", "wire_down")
"""Payload keys of `committed` (and of `run_finished`): bytes moved since the event of these kinds before it."""


class DevicePlan(NamedTuple):
    """One class of devices in a plan."""

    name: str
    clients: int
    examples: int  # training examples over all its clients
    memory_mb_available: float
    memory_mb_needed: float  # estimated for one client in training


class OracleArm(NamedTuple):
    """The arm of a scheduler's grid that a simulation's time model says is best for a class of devices."""

    place: int
    name: str  # in words


class Refusal(NamedTuple):
    """An update that a guard refused."""

    client: ClientId
    reason: str


@dataclass(frozen=True, slots=True)
class RunPlan:
    """What a run is about to do and to cost. Kept in the journal as `plan` of `run_started`."""

    name: str
    description: str  # one line on the data
    model: str
    clients: int
    devices: tuple[DevicePlan, ...]
    rounds: int
    ask: int  # clients asked a round
    base_parameters: int
    trainable_parameters: int
    update_bytes: int  # frame of one update, nominal
    broadcast_bytes: int  # frame of one broadcast, nominal
    full_model_bytes: int  # the whole model in fp32, one way
    example_passes: int  # training examples seen over the whole run, repeats counted
    labels: int
    test_examples: int
    arithmetic: str = ""  # how the frozen base is multiplied, in words
    trainer: str = ""  # whether clients are trained together, in words
    headline: str = ""  # the metric that the task is judged by, as it says; see `fedpeft.journal.Headline.of`
    larger_is_better: bool | None = None  # of that metric, as the task says
    notes: tuple[str, ...] = ()
    data_split: DataSplit | None = None  # of the training examples; None where the run was given data sets of its own
    oracle: Mapping[str, OracleArm] = field(default_factory=dict)  # by device class; empty where nobody knows
    step_passes: int = 0  # examples passed through the model in a step of a whole batch, see `step_passes`; 0: not told
    batch_size: int = 0  # examples of a step, of a client that has as many; 0: not told
    buffer: int = 0  # asynchronous: updates that make a round, while `ask` clients train at any time; 0: synchronous

    @property
    def updates(self) -> int:
        """Updates that make a round."""
        return self.buffer or self.ask

    def rounds_text(self) -> str:
        """How many rounds, and what one is."""
        if self.buffer:
            return f"{self.rounds} of {self.buffer} updates, {self.ask} of {self.clients} clients training at any time"
        return f"{self.rounds}, asking {self.ask} of {self.clients} clients in each"

    def to_payload(self) -> dict[str, Any]:
        """The plan as JSON values, for `run_started`."""
        split = self.data_split.to_payload() if self.data_split is not None else None
        return {**dataclasses.asdict(self), "devices": [list(device) for device in self.devices], "data_split": split}

    @classmethod
    def from_payload(cls, payload: Mapping[str, Any]) -> RunPlan:
        """The plan that `to_payload` wrote; keys of newer versions are dropped."""
        known = {item.name for item in dataclasses.fields(cls)}
        values = {key: value for key, value in payload.items() if key in known}
        values["devices"] = tuple(DevicePlan(*device) for device in values["devices"])
        values["notes"] = tuple(values.get("notes", ()))
        values["oracle"] = {device: OracleArm(*arm) for device, arm in values.get("oracle", {}).items()}
        if values.get("data_split") is not None:
            values["data_split"] = DataSplit.from_payload(values["data_split"])
        return cls(**values)


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a run is, fine-grained enough that a bar moves within a round."""

    phase: Phase
    done: float  # of `total`, in whatever unit the phase counts; never goes back within a phase
    total: float
    text: str  # what is happening now, e.g. "round 3 of 20: 5 of 8 clients"


@dataclass(frozen=True, slots=True)
class RunResult:
    """What a run came to. Bytes are sums over the run; accuracies are from 0 to 1.

    `zero_shot`, `federated`, `centralised` and `best` are values of the headline metric: the accuracy where the task
    has one, else the metric that it names, else its loss.
    """

    name: str
    folder: Path
    rounds: int  # committed
    adapter_hash: str  # sha256 hex of the last commit; empty before the first
    zero_shot: float | None  # of the untrained adapter
    federated: float | None  # of the last evaluated adapter
    centralised: float | None  # of one adapter trained on the pooled data
    example_passes: int  # training examples behind the folded updates, repeats counted
    centralised_passes: int
    test_examples: int  # behind `federated` (behind `zero_shot` where there is no later evaluation)
    frame_up: int  # bytes of fedpeft's frames, clients to coordinator
    frame_down: int
    wire_up: int  # the same messages in Flower's wire format
    wire_down: int
    full_model_bytes: int  # fp32 FedAvg of the whole model with as many asks, up + down
    seconds: float  # wall clock, time between interruption and resume left out
    refused: tuple[Refusal, ...] = ()
    client_accuracy_before: Mapping[ClientId, float] = field(default_factory=dict)
    client_accuracy_after: Mapping[ClientId, float] = field(default_factory=dict)
    rounds_asked: int = 0  # of the run file
    rounds_first: int = 0  # that were asked for when it began: it may have gone on with more; 0: not told
    finished: bool = True
    metric: str = ACCURACY  # the name of the headline metric
    larger_is_better: bool = True
    metrics: Mapping[str, Mapping[str, float]] = field(default_factory=dict)  # zero_shot, federated, ... -> all of them
    best: float | None = None  # of the best round's adapter on the whole test set, where it is not the last
    best_round: int | None = None  # where the best round was looked for
    stopped: str = ""  # why no further round was begun
    clients: Mapping[str, Mapping[str, Spread]] = field(
        default_factory=dict
    )  # stage -> metric; see `evaluations.Stage`
    client_values: Mapping[str, Mapping[ClientId, float]] = field(default_factory=dict)  # stage -> client -> headline

    @property
    def frame_bytes(self) -> int:
        """Bytes of frames, both ways."""
        return self.frame_up + self.frame_down

    @property
    def saving(self) -> float | None:
        """How many times less than fp32 FedAvg of the whole model the frames moved; None before anything moved."""
        return self.full_model_bytes / self.frame_bytes if self.frame_bytes and self.full_model_bytes else None

    def to_json(self) -> dict[str, Any]:
        """The result as JSON values, with the 95 % intervals of accuracies."""
        sound = self.metric == ACCURACY and self.test_examples > 0
        intervals = {
            name: list(wilson(value, self.test_examples)) if value is not None and sound else None
            for name, value in (
                ("zero_shot", self.zero_shot),
                ("federated", self.federated),
                ("centralised", self.centralised),
                ("best", self.best),
            )
        }
        return {
            **dataclasses.asdict(self),
            "folder": str(self.folder),
            "refused": [refusal._asdict() for refusal in self.refused],
            "intervals": intervals,
        }


def wilson(accuracy: float, examples: int, z: float = 1.959963984540054) -> tuple[float, float]:
    """Wilson's score interval of a share: honest near 0 and 1 and for few examples (Wilson 1927, eq. 5).

    Args:
        accuracy: share predicted right, from 0 to 1.
        examples: behind it, > 0.
        z: quantile of the normal distribution; the default gives 95 %.

    Returns:
        The lower and the upper end, from 0 to 1.
    """
    if examples <= 0:
        raise ValueError(f"examples = {examples}: an interval needs at least one")
    denominator = 1 + z * z / examples
    centre = (accuracy + z * z / (2 * examples)) / denominator
    half = z * math.sqrt(accuracy * (1 - accuracy) / examples + z * z / (4 * examples * examples)) / denominator
    return max(0.0, centre - half), min(1.0, centre + half)


def stored_plan(journal: Journal) -> RunPlan | None:
    """The plan that the run's first start for as many rounds as it has now kept, or None when it kept none."""
    starts = journal.events(EventKind.RUN_STARTED)
    plans = [event.payload["plan"] for event in starts if event.payload.get("plan")]
    first = next((plan for plan in plans if plan["rounds"] == plans[-1]["rounds"]), None)
    return None if first is None else RunPlan.from_payload(first)


def stored_config(journal: Journal) -> RunConfig:
    """The resolved run file that the journal keeps.

    Raises:
        ConfigError: it was written by a version with other keys.
    """
    return parse_config(tomllib.loads(journal.config_toml), origin=f"run file of {journal.run}")


def summarise(journal: Journal) -> RunResult:
    """The result of a run, or of as much of it as there is, from the journal alone.

    What an interrupted attempt asked and moved is not counted: its counters went with the process. An attempt that got
    too few replies counts, because its bytes were moved.
    """
    events = list(journal.events())
    config, plan = stored_config(journal), stored_plan(journal)
    tally = _Tally(config.local.batch_size)
    for event in events:
        tally.add(event)
    passes = tally.examples
    headline = Headline.of_events(events)
    by_split = {split: whole_evaluations(events, split) for split in ("test", "best", "centralised")}
    tests, pooled = by_split["test"], by_split["centralised"]
    later = [event for event in tests if event.round]
    stop = next((event for event in events if event.kind is EventKind.STOPPED), None)
    end = next((event for event in reversed(events) if event.kind is EventKind.RUN_FINISHED), None)
    best_round = end.payload.get("best_round") if end else None
    best = [event for event in by_split["best"] if event.round == best_round]  # a run that went on may have another
    shown = {"zero_shot": tests[:1] if tests and not tests[0].round else [], "federated": later, "centralised": pooled}
    last = {name: found[-1] for name, found in (shown | {"best": best}).items() if found}
    values = {name: headline.value(event.payload) for name, event in last.items()}
    commit = journal.last_commit()
    stages = client_measurements(events)
    return RunResult(
        name=journal.run,
        folder=journal.folder,
        rounds=commit.round if commit else 0,
        adapter_hash=commit.adapter if commit else "",
        zero_shot=values.get("zero_shot"),
        federated=values.get("federated"),
        centralised=values.get("centralised"),
        example_passes=passes,
        centralised_passes=int(pooled[-1].payload.get("passes", passes)) if pooled else 0,
        test_examples=tests[-1].payload["examples"] if tests else 0,
        frame_up=tally.bytes["frame_up"],
        frame_down=tally.bytes["frame_down"],
        wire_up=tally.bytes["wire_up"],
        wire_down=tally.bytes["wire_down"],
        full_model_bytes=2 * tally.asks * plan.full_model_bytes if plan else 0,
        seconds=_seconds(events),
        refused=tuple(
            Refusal(event.client or ClientId("?"), str(event.payload["reason"]))
            for event in events
            if event.kind == EventKind.REFUSED
        ),
        client_accuracy_before=_values(stages["before"], Headline()),
        client_accuracy_after=_values(stages["after"], Headline()),
        rounds_asked=config.run.rounds,
        rounds_first=next((e.payload.get("rounds", 0) for e in events if e.kind is EventKind.RUN_STARTED), 0),
        finished=_finished(events),
        metric=headline.name,
        larger_is_better=headline.larger_is_better,
        metrics={name: measured(event.payload) for name, event in last.items()},
        best=values.get("best"),
        best_round=best_round,
        stopped=str(stop.payload["reason"]) if stop else "",
        client_values={stage: _values(found, headline) for stage, found in stages.items() if found},
        clients={stage: spreads(found.values(), headline) for stage, found in stages.items() if found},
    )


class _Tally:
    """Bytes, asks and examples passed of what was committed, read in the order of the run.

    Args:
        batch_size: examples of a step, of a client that has as many.
    """

    def __init__(self, batch_size: int) -> None:
        self.bytes = dict.fromkeys(BYTE_KEYS, 0)
        self.asks = 0
        self.examples = 0  # passed for committed updates
        self._batch_size = batch_size
        self._batches: dict[ClientId | None, int] = {}  # examples of a client's step
        self._asks_open = 0  # since the last commit
        self._examples_open = 0
        self._planned: dict[tuple[int | None, int | None, ClientId | None], int] = {}

    def add(self, event: Event) -> None:
        key = (event.round, event.attempt, event.client)
        match event.kind:
            case EventKind.RUN_STARTED:
                self._asks_open = self._examples_open = 0
            case EventKind.HELLO:
                self._batches[event.client] = min(self._batch_size, event.payload["examples"])
            case EventKind.ASKED:
                self._asks_open += 1
                self._planned[key] = event.payload["steps"]
            case EventKind.ACCEPTED:
                batch = self._batches.get(event.client, self._batch_size)
                self._examples_open += self._planned.get(key, 0) * batch
            case EventKind.ROUND_SHORT:
                self._examples_open = 0
            case EventKind.COMMITTED | EventKind.RUN_FINISHED:
                for name in BYTE_KEYS:
                    self.bytes[name] += event.payload.get(name, 0)
                self.asks += self._asks_open
                self.examples += self._examples_open
                self._asks_open = self._examples_open = 0


def _values(found: Mapping[ClientId, Mapping[str, Any]], headline: Headline) -> dict[ClientId, float]:
    values = {client: headline.value(payload) for client, payload in found.items()}
    return {client: value for client, value in values.items() if value is not None}


def _finished(events: list[Event]) -> bool:
    """Whether the last session came to its end; an export after it changes nothing."""
    marks = [event.kind for event in events if event.kind in (EventKind.RUN_STARTED, EventKind.RUN_FINISHED)]
    return bool(marks) and marks[-1] == EventKind.RUN_FINISHED


def _seconds(events: list[Event]) -> float:
    """Wall clock over all sessions; a session is what follows one `run_started`."""
    total, began, last = 0.0, None, 0.0
    for event in events:
        if event.kind == EventKind.RUN_STARTED or began is None:
            total += last - began if began is not None else 0.0
            began = event.at
        last = event.at
    return max(0.0, total + (last - began if began is not None else 0.0))
