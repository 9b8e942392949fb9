"""Evaluation where the data is: a panel of clients judges an adapter on what each of them holds out.

The panel is drawn once, by the run's seed, so that every evaluation of a run asks the same clients and two of them can
be compared client by client. After the last round the panel may also train a few steps of its own from the adapter
and judge the result: that shows what is left to gain by personalisation. Nothing but metrics leaves a device.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

from fedpeft.journal import Event, EventKind, Headline, is_share, measured, spreads
from fedpeft.journal.headline import ACCURACY, LOSS
from fedpeft.randomness.streams import derive, derive_seed
from fedpeft.server.round import BASE_LOST
from fedpeft.server.state import State
from fedpeft.types import ClientId, ClientInfo, Plan
from fedpeft.wire.frame import Frame

CONSTANT = "constant."
"""How the names of those metrics begin that tell what always answering one label would reach."""

LARGEST = 1e30
"""No metric of a client is believed beyond it: a mean over clients must not overflow by one that went astray."""


class ClientEvaluations:
    """Evaluations on the clients.

    Args:
        state: the coordinator's parts.
    """

    def __init__(self, state: State) -> None:
        self.state = state
        self.means: dict[int, Mapping[str, float]] = {}  # round -> metric -> mean weighted by examples
        self._told: set[tuple[int, str]] = set()  # round and group whose spread is recorded
        self._answers: dict[tuple[int, EventKind], dict[ClientId, Mapping[str, Any]]] = {}  # of those that are not yet

    def begin(self) -> None:
        """Look up in the journal what an earlier start has done."""
        for event in self.state.journal.events(EventKind.CLIENTS_EVALUATED):
            self._note(event)
        for kind, group in ((EventKind.CLIENT_EVALUATED, "clients"), (EventKind.CLIENT_TUNED, "tuned")):
            for event in self.state.journal.events(kind):
                if event.round is None or event.client is None or (event.round, group) in self._told:
                    continue
                if self._is_sound(_metrics(event.payload), event.payload["examples"]):
                    self._answers.setdefault((event.round, kind), {})[event.client] = event.payload

    def evaluate(self, number: int) -> None:
        """Let the panel judge the adapter of round `number`, which is the current broadcast, if it has not yet."""
        self._ask(number, EventKind.CLIENT_EVALUATED, "clients")

    def personalise(self, number: int) -> None:
        """Let each client of the panel train its own steps from that adapter, and judge the result, if not done yet."""
        if self.state.config.evaluation.personalised_steps:
            self._ask(number, EventKind.CLIENT_TUNED, "tuned")

    def _ask(self, number: int, kind: EventKind, group: str) -> None:
        """Whoever has not answered in an earlier start is asked; an answer that does not come is missing."""
        state = self.state
        if not state.config.evaluation.clients:
            return
        if (number, group) in self._told:
            return
        answers = self._answers.setdefault((number, kind), {})
        frames, told = [], {}
        for info in self._panel():
            if info.client not in answers:
                holding = state.roster.holding(info.client)
                told[info.client] = own = state.broadcasts.told(holding.version, holding.past)
                frames.append((info, own.base, own.body, holding.feedback))
        plans = {info.client: self._plan(info, number) for info, *_ in frames} if group == "tuned" else None
        with state.journal.together():
            for reply in state.post.exchange_evaluate(
                frames, number, state.broadcasts.version, state.config.round.deadline_s, state.pause, plans
            ):
                if reply.code in BASE_LOST:  # it is given a snapshot the next time that it is asked anything
                    state.roster.lost_base(reply.client)
                if reply.frame is not None and self._is_sound(reply.frame.metrics, reply.frame.weight):
                    more = {"steps": plans[reply.client].steps} if plans else {}
                    payload = _payload(reply.frame) | more
                    answers[reply.client] = payload
                    state.journal.record(kind, round=number, client=reply.client, **payload)
                    holding = state.roster.holding(reply.client)  # it keeps what it was sent
                    kept = replace(holding, version=state.broadcasts.version, past=told[reply.client].past)
                    state.roster.learn(reply.client, kept)
        self._summarise(number, group, list(self._answers.pop((number, kind)).values()))

    def _is_sound(self, metrics: Mapping[str, float], examples: float) -> bool:
        """Whether an answer can be believed: it has examples behind it, not more than a client may claim, no share is
        outside 0 to 1 and nothing beyond `LARGEST`."""
        shares = [value for name, value in metrics.items() if is_share(name) or name.startswith(CONSTANT)]
        bounded = all(abs(value) <= LARGEST for value in metrics.values())
        counted = 1 <= examples <= self.state.config.limits.max_examples
        return counted and bounded and all(0 <= share <= 1 for share in shares)

    def _panel(self) -> list[ClientInfo]:
        """The clients of the panel that can be asked, in id order."""
        state = self.state
        chosen = panel(list(state.roster.clients), state.config.evaluation.clients_fraction, state.config.run.seed)
        return [info for info in state.roster.available(state.unreachable()) if info.client in chosen]

    def _plan(self, info: ClientInfo, number: int) -> Plan:
        """What a client trains for itself: plain steps with a plain objective."""
        config, local = self.state.config, self.state.config.local
        return Plan(
            run=config.run.name,
            round=number,
            attempt=0,
            client=info.client,
            seed=derive_seed(config.run.seed, "personalise", info.client),
            steps=config.evaluation.personalised_steps,
            batch_size=local.batch_size,
            learning_rate=config.evaluation.personalised_learning_rate or local.learning_rate,
            weight_decay=local.weight_decay,
            max_grad_norm=local.max_grad_norm,
            optimizer=local.optimizer,
            rank=self.state.rank_of(info),
            codec=self.state.codec_of(info.device),
            version=self.state.broadcasts.version,
            feedback=self.state.roster.holding(info.client).feedback,
            layout=self.state.settings.layout.digest,
        )

    def _summarise(self, number: int, group: str, answers: Sequence[Mapping[str, Any]]) -> None:
        """Record the spread of every metric over the clients that answered."""
        settings = self.state.settings
        first = next((found for found in map(measured, answers) if found), {})
        headline = Headline.of(first, settings.headline, settings.larger_is_better)
        found = {name: spread.to_payload() for name, spread in spreads(answers, headline).items()}
        if found:
            payload: Mapping[str, Any] = {group: found}
            self._note(self.state.journal.record(EventKind.CLIENTS_EVALUATED, round=number, **payload))

    def _note(self, event: Event) -> None:
        if event.round is None:
            return
        self._told |= {(event.round, group) for group in event.payload}
        if "clients" in event.payload:
            spreads_of = event.payload["clients"].items()
            self.means[event.round] = {name: spread["weighted"] for name, spread in spreads_of}


def panel(clients: Sequence[ClientId], fraction: float, seed: int) -> Collection[ClientId]:
    """The clients that evaluate: a share of them, rounded up, the same for the same seed.

    A client's place in the order does not depend on who else is there, so a client that joins or leaves changes the
    panel by one at most.

    >>> sorted(panel([ClientId(f"c{k}") for k in range(5)], 0.5, seed=1)), len(panel([ClientId("a")], 0.01, seed=1))
    (['c1', 'c2', 'c3'], 1)
    """
    count = math.ceil(fraction * len(clients) - 1e-9)
    if count >= len(clients):
        return frozenset(clients)
    return frozenset(sorted(clients, key=lambda client: derive(seed, "evaluation-panel", client))[:count])


def _metrics(payload: Mapping[str, Any]) -> dict[str, float]:
    """What `_payload` was made of."""
    return measured(payload) | {CONSTANT + key: value for key, value in payload.get("constant", {}).items()}


def _payload(frame: Frame) -> dict[str, Any]:
    values = dict(frame.metrics)
    accuracy, loss = values.pop(ACCURACY, None), values.pop(LOSS, None)
    constant = {name.removeprefix(CONSTANT): values.pop(name) for name in list(values) if name.startswith(CONSTANT)}
    payload = {"accuracy": accuracy, "loss": loss, "metrics": values, "examples": int(frame.weight)}
    return payload | ({"constant": constant} if constant else {})
