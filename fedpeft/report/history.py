"""A run round by round, read from the journal: what the plots and tables of the report are drawn from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from fedpeft.journal import Event, EventKind, Spread, measured
from fedpeft.report.forms import FormCount, form_counts
from fedpeft.report.participation import Participation, participation
from fedpeft.report.points import MIXING
from fedpeft.report.ranks import RankCount, rank_counts
from fedpeft.report.summary import BYTE_KEYS
from fedpeft.types import ClientId

INCIDENTS = {
    EventKind.HELLO_FAILED: "cannot take part",
    EventKind.SAT_OUT: "sits out",
    EventKind.REFUSED: "refused",
    EventKind.FAILED: "failed",
    EventKind.LATE: "late",
    EventKind.ABANDONED: "abandoned",
    EventKind.ROUND_SHORT: "round short",
}
"""Kinds of events that a person should see, and their names. A resume is one too."""

OUTLYING = "most of its scalars were further from the others' than zeroth.deviations allows, and were bounded"
"""What is said of a client that a commit names."""


@dataclass(frozen=True, slots=True)
class Evaluated:
    """One evaluation on the coordinator."""

    round: int
    split: str  # "test" or "centralised"
    accuracy: float | None
    loss: float | None
    examples: int
    metrics: Mapping[str, float] = field(default_factory=dict)  # all that was measured, accuracy and loss among it


@dataclass(frozen=True, slots=True)
class Reply:
    """One folded update."""

    round: int
    client: ClientId
    device: str
    seconds: float  # of the coordinator's clock, between asking and answering
    weight: float  # examples
    loss_first: float | None
    loss_last: float | None
    steps: int = 0  # of its optimizer


@dataclass(frozen=True, slots=True)
class RoundRow:
    """One commit."""

    round: int
    accepted: int
    seconds: float  # of the coordinator's clock, with those of its attempts that came short
    moved: Mapping[str, int]  # bytes by the names in BYTE_KEYS, since the commit before; the last: to the run's end
    staleness_mean: float | None = None  # commits between asking and folding, over its updates; None: none, or not told
    staleness_max: int | None = None
    owed: float | None = None  # ‖θ − broadcast‖ / ‖θ − θ_0‖ after it; None: the downlink is not by steps
    mixing: Mapping[str, float] | None = None  # what mixing LoRA factors cost, by MIXING's names; None: no rule
    passes: int = 0  # of examples through the model behind its updates, as `RunPlan.step_passes` counts; 0: not told


@dataclass(frozen=True, slots=True)
class Incident:
    """Something that did not go as planned."""

    at: float  # unix seconds
    round: int | None
    attempt: int | None
    client: ClientId | None
    kind: str
    text: str


@dataclass(slots=True)
class History:
    """The events of a run, sorted by what they tell."""

    rounds: list[RoundRow] = field(default_factory=list)
    evaluated: list[Evaluated] = field(default_factory=list)
    replies: list[Reply] = field(default_factory=list)
    incidents: list[Incident] = field(default_factory=list)
    devices: dict[ClientId, str] = field(default_factory=dict)
    participation: tuple[Participation, ...] = ()
    forms: tuple[FormCount, ...] = ()  # of what zeroth-order clients were sent of the model
    ranks: tuple[RankCount, ...] = ()  # of clients whose rank a rule lowered
    spreads: dict[int, dict[str, Spread]] = field(default_factory=dict)  # round -> metric -> over the clients
    sessions: int = 0

    @property
    def tests(self) -> list[Evaluated]:
        """Evaluations of the federated adapter, in round order; each round once."""
        last = {item.round: item for item in self.evaluated if item.split == "test"}
        return [last[number] for number in sorted(last)]

    @property
    def centralised(self) -> Evaluated | None:
        """The evaluation of the adapter trained on the pooled data."""
        return next((item for item in reversed(self.evaluated) if item.split == "centralised"), None)


def read_history(events: Sequence[Event]) -> History:
    """Sort the events of a run.

    Updates of an attempt that was not committed are left out: they are in no adapter.
    """
    history = History(participation=participation(events), forms=form_counts(events), ranks=rank_counts(events))
    pending: list[Reply] = []
    planned: dict[tuple[int | None, int | None, ClientId | None], int] = {}  # steps
    short = 0.0  # seconds of attempts that came short, since the last commit
    held: dict[ClientId, int] = {}  # training examples
    plan: Mapping[str, Any] = {}
    for event in events:
        payload = event.payload
        match event.kind:
            case EventKind.RUN_STARTED:
                history.sessions += 1
                pending.clear()
                plan = payload.get("plan") or {}
                if payload.get("resumed"):
                    history.incidents.append(_incident(event, "resumed", "the run went on after an interruption"))
            case EventKind.HELLO if event.client is not None:
                history.devices[event.client] = str(payload["device"])
                held[event.client] = payload["examples"]
            case EventKind.EVALUATED:
                history.evaluated.append(
                    Evaluated(
                        event.round or 0,
                        payload["split"],
                        payload["accuracy"],
                        payload["loss"],
                        payload["examples"],
                        measured(payload),
                    )
                )
            case EventKind.CLIENTS_EVALUATED if "clients" in payload:
                history.spreads[event.round or 0] = {
                    name: Spread.from_payload(spread) for name, spread in payload["clients"].items()
                }
            case EventKind.ASKED:
                planned[event.round, event.attempt, event.client] = payload["steps"]
            case EventKind.ACCEPTED if event.client is not None:
                pending.append(
                    Reply(
                        event.round or 0,
                        event.client,
                        history.devices.get(event.client, "default"),
                        payload["seconds"],
                        payload["weight"],
                        payload.get("loss_first"),
                        payload.get("loss_last"),
                        planned.pop((event.round, event.attempt, event.client), 0),
                    )
                )
            case EventKind.COMMITTED:
                history.replies += pending
                row = _row(event)
                passes = sum(reply.steps * _step_passes(plan, held.get(reply.client)) for reply in pending)
                history.rounds.append(replace(row, seconds=row.seconds + short, passes=passes))
                pending.clear()
                short = 0.0
                history.incidents += [
                    Incident(event.at, event.round, event.attempt, client, "outlying", OUTLYING)
                    for client in payload.get("outlying", ())
                ]
            case EventKind.RUN_FINISHED if history.rounds:
                last = history.rounds[-1]  # what moved after it, e.g. the last evaluation on clients, is shown with it
                total = {key: last.moved[key] + payload.get(key, 0) for key in BYTE_KEYS}
                history.rounds[-1] = replace(last, moved=total)
            case EventKind.ROUND_SHORT:
                pending.clear()
                short += payload.get("seconds", 0.0)  # not told by older journals
        if event.kind in INCIDENTS:
            history.incidents.append(_incident(event, INCIDENTS[event.kind], describe(event)))
    return history


def _step_passes(plan: Mapping[str, Any], examples: int | None) -> int:
    """Of a client's step: one with fewer examples than a batch takes has smaller batches."""
    passes, batch = int(plan.get("step_passes", 0)), int(plan.get("batch_size", 0))
    return passes * min(examples, batch) // batch if batch and examples is not None else passes


def describe(event: Event) -> str:
    """One event in words, without its round and client."""
    payload = event.payload
    match event.kind:
        case EventKind.REFUSED:
            return f"{payload['reason']} [{payload['code']}]"
        case EventKind.FAILED | EventKind.HELLO_FAILED | EventKind.SAT_OUT:
            return str(payload["reason"])
        case EventKind.LATE:
            age = int(payload["age"])
            when = "after enough others" if age == 0 else f"{age} round{'s' if age > 1 else ''} late"
            return f"{when}; {'folded in, discounted' if payload['rule'] == 'fold' else 'dropped'}"
        case EventKind.ABANDONED:
            return "no reply within the deadline"
        case EventKind.MASK_MADE:
            kept, of = int(payload["bits"], 16).bit_count(), sum(group[2] for group in payload["groups"])
            return f"{payload['mask'][:12]} keeps {kept} of {of} heads and channels (pruning {payload['pruning']:g})"
        case EventKind.ROUND_SHORT:
            return f"{payload['accepted']} usable replies, {payload['needed']} needed: attempted again"
        case _:
            return ", ".join(f"{key} {value}" for key, value in payload.items() if not isinstance(value, Mapping))


def _incident(event: Event, kind: str, text: str) -> Incident:
    return Incident(event.at, event.round, event.attempt, event.client, kind, text)


def _row(event: Event) -> RoundRow:
    payload: Mapping[str, Any] = event.payload
    return RoundRow(
        event.round or 0,
        payload["accepted"],
        payload["seconds"],
        {key: payload.get(key, 0) for key in BYTE_KEYS},
        payload.get("staleness_mean"),
        payload.get("staleness_max"),
        payload.get("owed"),
        {name: payload[name] for name in MIXING} if MIXING[0] in payload else None,
    )
