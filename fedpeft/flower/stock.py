"""Flower's own strategies as ours: the rule is Flower's, whom to ask and what to keep stays with fedpeft.

    strategy = { name = "flower:FedAdam", eta = 0.01 }            # a run file; a name of flwr.serverapp.strategy
    strategy = { name = "flower:my/rule.py:MyFedAvg" }            # a class of one's own, derived from Flower's
    fedpeft.simulate(..., strategy=Stock(FedTrimmedAvg(beta=0.1)))

What is called, once a round, when its replies are in: `configure_train`, since some strategies note the model there,
and then `aggregate_train` with all replies, sorted by client, as Flower's loop would. Each reply holds one ArrayRecord
with the client's whole model, θ + Δ in fp32 as one array `adapter` of shape (d,), and one MetricRecord with its weight
and its losses. Not called: `start`, `configure_evaluate`, `aggregate_evaluate`, `summary`; and of what
`configure_train` returns, only the configuration is looked at. Whom to ask is drawn by `Strategy.select`, from the
run's seed, because Flower draws from a generator that nobody seeds.

* **Rounds** are numbered from 1 and count those that had replies.
* **Chance**: while Flower's code runs, Python's and NumPy's global generators are seeded from the round's seed, and put
  back afterwards. So a strategy that draws from them does the same on every engine and after a restart.
* **Resume is exact**, or a strategy that keeps what cannot be saved is refused: see `stock_state.py`.
* **Losses**: `train_loss`, which q-FedAvg asks for, is the loss of the first batch, at the model that was sent: the
  F_k(w^t) of its paper. `loss_first` and `loss_last` are there under their own names too.
* **Memory**: all replies, 4d bytes each, until the round ends; then a median, a trimmed mean and Krum make two copies
  of them all, Bulyan five. The list in `tests/contracts/test_strategies.py` holds them to it.

State between rounds: all that the strategy keeps (FedAdam: m, v and the last θ, 12d bytes). Transmits what FedAvg does.
"""

from __future__ import annotations

import copy
import hashlib
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from flwr.app import Array, ArrayRecord, ConfigRecord, MetricRecord, RecordDict
from flwr.serverapp import strategy as flowers

from fedpeft.aggregation.mean import MAX_ABS, MAX_TOTAL_WEIGHT
from fedpeft.errors import ClientFault, FedpeftError, PluginError, RoundError
from fedpeft.flower import compat
from fedpeft.flower.stock_parameters import check_set
from fedpeft.flower.stock_stage import Present, quiet, seeded, swift_collections
from fedpeft.flower.stock_state import Memory
from fedpeft.strategies.base import State, Strategy
from fedpeft.types import ClientId, ClientInfo, FloatArray, Update

KEY = "adapter"
"""Name of the one array that a Flower strategy sees."""

MAX_LOSS = 1e6
"""Largest loss that a client may claim where the rule weighs by it."""

SHARES = (float(np.finfo(np.float64).tiny), float(np.finfo(np.float32).max) / (MAX_ABS * 2.0**20))
"""Least and greatest F^q / η of a client in q-FedAvg, which adds up these times Δ in fp32 and divides by a sum of them.
A million clients stay in range."""

_TREES = "it adds up the trees of a boosted ensemble, and an adapter is a vector"
_NOISE = (
    "its noise comes from a generator that a run would have to seed, and its guarantee counts clients that Flower "
    "samples, while here fedpeft selects them"
)
REFUSED: dict[str, str] = {
    "FedXgbBagging": _TREES,
    "FedXgbCyclic": _TREES,
    "DifferentialPrivacyServerSideFixedClipping": _NOISE,
    "DifferentialPrivacyServerSideAdaptiveClipping": _NOISE,
    "DifferentialPrivacyClientSideFixedClipping": _NOISE,
    "DifferentialPrivacyClientSideAdaptiveClipping": _NOISE,
}
"""Flower's strategies that cannot do here what their names promise, and why."""

WEIGHTED = (flowers.FedAvgM, flowers.FedAdam, flowers.FedAdagrad, flowers.FedYogi, flowers.FedProx)
"""Rules that step along the weighted mean, so that a stale update can be discounted; so does `FedAvg` itself."""

COMPARING = (flowers.FedMedian, flowers.FedTrimmedAvg, flowers.Krum, flowers.MultiKrum, flowers.Bulyan)
"""Rules that set the clients' models side by side."""

_UNDERSTOOD = {"server-round": "the plan's round", "proximal-mu": "the plan's objective"}
"""Configuration keys of Flower's strategies that reach our clients, and how."""


class Stock(Strategy):
    """A `flwr.serverapp.strategy.Strategy` as a strategy of ours.

    Args:
        inner: made, and not used yet.

    Raises:
        PluginError: it is none, one of `REFUSED`, has a parameter without an effect here, keeps what a snapshot cannot
            store, or tells its clients something that no client here would read.
    """

    def __init__(self, inner: flowers.Strategy) -> None:
        check(inner)
        check_set(inner)
        compat.ensure_identity()  # without one, a strategy can make no messages
        self.inner = inner
        self.name = f"flower:{type(inner).__name__}"
        self.asynchronous = isinstance(inner, WEIGHTED) or type(inner) is flowers.FedAvg
        self.compares = isinstance(inner, COMPARING)
        if isinstance(inner, flowers.FedProx):
            self.objective, self.objective_params = "proximal", {"mu": float(inner.proximal_mu)}
        self._memory = Memory(inner)
        self._rounds = 0  # finished
        self._seed = 0
        self._theta: FloatArray | None = None
        self._replies: dict[tuple[ClientId, int], RecordDict] = {}  # (client, its round) -> what it sent
        self._rehearse()

    def select(self, available: Sequence[ClientInfo], count: int, seed: int) -> list[ClientId]:
        """See `Strategy.select`; the seed also serves Flower's own draws of this round."""
        self._seed = seed
        return super().select(available, count, seed)

    def begin(self, theta: FloatArray) -> None:
        """See `Strategy.begin`."""
        self._theta, self._replies = theta, {}

    def accept(self, update: Update, weight: float) -> None:
        """Keep the client's model.

        Raises:
            ClientFault: a delta, weight or loss that would leave the range of fp32, or a loss that the rule needs and
                the client does not tell (code `strategy.range`).
        """
        if self._theta is None:
            raise RuntimeError(f"{self.name}: no round is open; call begin(theta) first")
        largest = float(np.abs(update.delta).max(initial=0.0))
        self._bound(update, largest <= MAX_ABS, f"delta has an element of size {largest:.3g}", f"at most {MAX_ABS:g}")
        self._bound(update, weight <= MAX_TOTAL_WEIGHT, f"weight {weight:.3g}", f"at most {MAX_TOTAL_WEIGHT:g}")
        losses = {name: update.metrics[name] for name in ("loss_first", "loss_last") if name in update.metrics}
        if "loss_first" in losses:
            losses["train_loss"] = losses["loss_first"]
        wanted = getattr(self.inner, "train_loss_key", None)
        if wanted is not None:
            loss = losses.get(wanted, math.nan)
            self._bound(update, 0 <= loss <= MAX_LOSS, f"{wanted} = {loss:.3g}", f"0 to {MAX_LOSS:g}")
            if isinstance(self.inner, flowers.QFedAvg):
                self._bound_share(update, self.inner, loss)
        weighted_by = getattr(self.inner, "weighted_by_key", "num-examples")
        self._replies[update.client, update.round] = RecordDict(
            {
                "arrays": ArrayRecord({KEY: Array(self._theta + update.delta)}),
                "metrics": MetricRecord({weighted_by: float(weight), **losses}),
            }
        )

    def finish(self) -> FloatArray:
        """See `Strategy.finish`. A strategy that declines to aggregate (Bulyan, of too few replies) leaves θ as it was.

        Raises:
            RoundError: the strategy raised, or returned something that is no adapter (code `strategy.flower-failed`).
        """
        if self._theta is None:
            raise RuntimeError(f"{self.name}: no round is open; call begin(theta) first")
        theta, replies = self._theta, self._replies
        self._theta, self._replies = None, {}
        if not replies:
            return theta.copy()
        number = self._rounds + 1
        contents = [(node_of(client), replies.pop((client, asked))) for client, asked in sorted(replies)]
        try:
            with seeded(self._seed), quiet(), swift_collections(), np.errstate(over="ignore", invalid="ignore"):
                self._configure(self.inner, number, theta, sorted({node for node, _ in contents}))
                _same_metrics([content for _, content in contents])
                arrays, _ = self.inner.aggregate_train(number, [compat.reply(sent, node) for node, sent in contents])
        except FedpeftError:
            raise
        except Exception as error:  # whatever it is, it is the strategy's: the run stops, and says which
            raise self._failed(number, f"{type(error).__name__}: {error}") from error
        self._rounds = number
        if arrays is None:
            return theta.copy()
        if list(arrays) != [KEY]:
            raise self._failed(number, f"it returned the arrays {list(arrays)}")
        after: FloatArray = np.array(arrays[KEY].numpy(), dtype=np.float32)
        return after

    def state(self) -> State:
        """All that the Flower strategy keeps; empty before its first round."""
        return self._memory.state(self._rounds) if self._rounds else {}

    def restore(self, state: Mapping[str, npt.NDArray[Any]]) -> None:
        """See `Strategy.restore`."""
        self._rounds = self._memory.restore(state)

    def _configure(self, inner: flowers.Strategy, number: int, theta: FloatArray, nodes: list[int]) -> None:
        """Let the strategy note the model, and look at what it would tell the clients."""
        sent = ArrayRecord({KEY: Array(theta)})
        before = sent[KEY].data
        needed = [getattr(inner, name, 0) for name in ("min_available_nodes", "min_train_nodes")]
        messages = list(inner.configure_train(number, sent, ConfigRecord(), Present(nodes, max(1, *needed))))
        for message in messages:
            for record in message.content.array_records.values():
                if list(record) != [KEY] or record[KEY].data != before:
                    raise self._unheard("other arrays than the adapter")
            for config in message.content.config_records.values():
                understood = {"server-round"} | ({"proximal-mu"} if self.objective == "proximal" else set())
                unknown = sorted(set(config) - understood)
                if unknown:
                    raise self._unheard("the configuration " + ", ".join(unknown))

    def _rehearse(self) -> None:
        """Ask a copy for a round's messages, so that what no client would read is refused before the run."""
        try:
            rehearsal = copy.deepcopy(self.inner)
        except Exception:  # a strategy that cannot be copied is looked at in its first round
            return
        with seeded(0), quiet():
            self._configure(rehearsal, 1, np.zeros(1, dtype=np.float32), [])

    def _unheard(self, what: str) -> PluginError:
        return PluginError(
            f'strategy "{self.name}" sends its clients {what}, which no client here would read',
            code="strategy.flower-config",
            allowed=", ".join(f"{key} ({meaning})" for key, meaning in _UNDERSTOOD.items()),
            remedy="write it as a strategy of fedpeft with a local objective: strategies/README.md",
        )

    def _failed(self, number: int, what: str) -> RoundError:
        return RoundError(
            f'strategy "{self.name}" failed in its round {number}: {what}',
            code="strategy.flower-failed",
            allowed=f"an ArrayRecord with the one array {KEY}, or None",
            remedy="correct the strategy or its parameters, then resume the run",
        )

    def _bound_share(self, update: Update, inner: flowers.QFedAvg, loss: float) -> None:
        with np.errstate(all="ignore"):
            share = float(np.float_power(loss + 1e-10, inner.q) / inner.client_learning_rate)  # 1e-10 is Flower's
        self._bound(
            update,
            SHARES[0] <= share <= SHARES[1],
            f"{inner.train_loss_key} = {loss:.3g} to the power of q = {inner.q:g}, divided by client_learning_rate = "
            f"{inner.client_learning_rate:g}, is {share:.3g}",
            f"{SHARES[0]:.3g} to {SHARES[1]:.3g}",
            "if such losses are honest, lower q",
        )

    @staticmethod
    def _bound(update: Update, kept: bool, what: str, allowed: str, remedy: str | None = None) -> None:
        if not kept:
            raise ClientFault(
                f"client {update.client}, round {update.round}: {what}",
                code="strategy.range",
                allowed=allowed,
                remedy=remedy,
            )


def check(inner: object) -> None:
    """Whether this is a Flower strategy that can do here what its name promises.

    Raises:
        PluginError: it cannot, and why.
    """
    for name, reason in REFUSED.items():
        if isinstance(inner, getattr(flowers, name)):
            raise refusal(name, reason)
    if not isinstance(inner, flowers.Strategy):
        raise PluginError(
            f"a {type(inner).__name__} is not a strategy of Flower",
            code="strategy.flower-none",
            allowed="an object of a class derived from flwr.serverapp.strategy.Strategy",
            remedy='name a strategy of fedpeft without "flower:"',
        )


def refusal(name: str, reason: str) -> PluginError:
    """The error of a strategy in `REFUSED`."""
    return PluginError(
        f'strategy "flower:{name}" cannot run here: {reason}',
        code="strategy.flower-refused",
        allowed=", ".join(known()),
        remedy="choose one of these, or one of fedpeft's own",
    )


def known() -> list[str]:
    """The names of Flower's strategies that run here."""
    return [name for name in flowers.__all__ if name not in REFUSED and name not in ("Strategy", "Result")]


def node_of(client: ClientId) -> int:
    """A node id that a client has in every engine and after every restart, uint64."""
    return int.from_bytes(hashlib.sha256(client.encode()).digest()[:8], "big")


def _same_metrics(contents: Iterable[RecordDict]) -> None:
    """Leave the replies those metrics only that all of them have: Flower refuses others."""
    records = [next(iter(content.metric_records.values())) for content in contents]
    shared = set.intersection(*(set(record) for record in records))
    for record in records:
        for name in set(record) - shared:
            del record[name]


__all__ = ["REFUSED", "Stock", "check", "known", "refusal"]
