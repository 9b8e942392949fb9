"""What each client is to do without: scores of heads and channels, smoothed over rounds, and the masks made of them.

With s_k the shares that client k measured in a round, of the units that it held, n_k its weight, and M_k the sum of the
scores that those units had before within their group (1 for who holds all), so that a pruned client's shares, which add
up to 1 over fewer units, count on the scale of the others':

    m_u = Σ_k n_k M_k s_k,u / Σ_k n_k   over the clients that hold u,      S_u ← β S_u + (1 − β) m_u

and S as shares of its group again. A unit that nobody held keeps its score. The first measure of a unit takes the place
of what it began with. Masks follow the scores as they were when the plan in force was made (`fedpeft.pruning.ramp`),
not as they are, so every client of one ratio gets one mask until the next plan.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from fedpeft.aggregation import WeightedMean
from fedpeft.codecs.fp16 import Fp16
from fedpeft.config import RunConfig
from fedpeft.errors import ClientFault, PluginError
from fedpeft.journal import EventKind, Journal
from fedpeft.pruning.importance import is_measured
from fedpeft.pruning.mask import choose, unpack
from fedpeft.pruning.ramp import Ramp
from fedpeft.pruning.scoring import SCORES
from fedpeft.pruning.units import Units
from fedpeft.registry import build
from fedpeft.server.inflight import Asked
from fedpeft.server.post import decoding
from fedpeft.types import FloatArray, Held, Plan
from fedpeft.wire.sections import Section

_ROUNDING = 0.01  # by which shares in fp16 may add up to more than 1


@dataclass(frozen=True, slots=True)
class PruningSettings:
    """What the coordinator knows of the model's heads and channels."""

    units: Units
    magnitudes: npt.NDArray[np.float64]  # L2 norm of each unit's frozen weights, shape (U,)
    ratios: Mapping[str, float]  # device class -> share that it does without


class Pruning:
    """Scores and masks of a run.

    Args:
        settings: of the model.
        config: its table `[pruning]` counts.

    Raises:
        PluginError: no such importance, or one whose scores are none.
    """

    def __init__(self, settings: PruningSettings, config: RunConfig) -> None:
        table = config.pruning
        self.units, self.ratios = settings.units, settings.ratios
        self.ramp = Ramp(table.start, table.ramp, table.every)
        self.smoothing = table.smoothing
        importance = build("importance", table.importance.name, table.importance.params)
        self.importance = table.importance.name if is_measured(importance) else ""
        self._scores = _checked(
            importance.begin(settings.magnitudes, config.run.seed), self.units, table.importance.name
        )
        if self.importance:
            if (self._scores < 0).any():
                raise PluginError(
                    f'importance "{self.importance}" gives scores below 0, and clients send theirs as shares of a sum',
                    code="plugin.importance-scores",
                    allowed="numbers of 0 or more from the begin() of an importance that clients measure",
                    remedy="correct its begin(), e.g. by the exponential of what it gives",
                )
            self._scores = self.units.shares(self._scores)
        self._planned = self._scores.copy()
        self._measured = np.zeros(self.units.count, dtype=bool)
        self._masks: dict[tuple[float, int], bytes] = {}
        self._noted: set[str] | None = None  # digests of the masks that the journal has
        self.begin()

    def mask_for(self, ratio: float, number: int) -> bytes:
        """The mask of a client of this ratio in round `number`; empty where it keeps everything.

        Args:
            ratio: what the client is to do without in the end, in [0, `largest_ratio`]; the ramp is applied here.
            number: the round that is being asked, or a later one of the same plan.

        Raises:
            ValueError: a ratio that keeps nothing of a layer.
        """
        now = self.ramp.ratio(ratio, number)
        key = (now, self.ramp.planned(number))
        if key not in self._masks:
            self._masks = {known: mask for known, mask in self._masks.items() if known[1] == key[1]}
            self._masks[key] = choose(self._planned, self.units.sizes, now) if now > 0 else b""
        return self._masks[key]

    def planned(self, plan: Plan, ratio: float) -> Plan:
        """The plan of a client of this ratio, with its mask and what it is to measure."""
        mask = self.mask_for(ratio, plan.round)
        now = self.ramp.ratio(ratio, plan.round) if mask else 0.0
        return replace(plan, pruning=now, mask=mask, importance=self.importance)

    def note(self, plan: Plan | None, journal: Journal, attempt: int) -> None:
        """Record the mask of a plan that is about to be sent, unless the journal has it."""
        if plan is None or not plan.mask:
            return
        if self._noted is None:
            self._noted = {event.payload["mask"] for event in journal.events(EventKind.MASK_MADE)}
        digest = digest_of(plan.mask)
        if digest in self._noted:
            return
        self._noted.add(digest)
        journal.record(
            EventKind.MASK_MADE,
            round=plan.round,
            attempt=attempt,
            mask=digest,
            bits=plan.mask.hex(),
            pruning=plan.pruning,
            groups=[[group.layer, group.kind, group.size] for group in self.units.groups],
        )

    def begin(self) -> None:
        """Start a round, or another attempt at one: what an earlier attempt brought is forgotten."""
        self._mean = WeightedMean(self.units.count)
        self._seen = np.zeros(self.units.count, dtype=bool)

    def read(self, sections: tuple[Section, ...], asked: Asked) -> tuple[tuple[Section, ...], FloatArray | None]:
        """A reply's sections without its scores, and its scores, shape (U,); None where it was not asked for any.

        Raises:
            ClientFault: scores that are missing, or are no shares of the units that the client holds.
        """
        plan = asked.plan
        if plan is None or not plan.importance:
            return sections, None
        own = [section for section in sections if section.name == SCORES]
        kept = self._kept(plan.mask)
        size, codec = int(kept.sum()), Fp16()
        if not own or own[0].codec != codec.name or len(own[0].body) != codec.max_bytes(size):
            raise _wrong(asked, "brings no scores", f'a section "{SCORES}" of {size} values in {codec.name}')
        scores = np.zeros(self.units.count, dtype=np.float32)
        with decoding(asked.client, codec.name, "its scores"):
            scores[kept] = codec.decode(own[0].body, size)
        for group in self.units.groups:
            shares = scores[group.units]
            if (shares < 0).any() or shares.sum() > 1 + _ROUNDING:
                found = f"scores the {group.kind} of layer {group.layer} by {shares.min():g} to {shares.max():g}"
                raise _wrong(asked, f"{found}, {shares.sum():g} in all", "shares, 0 or more, that add up to 1 at most")
        return tuple(section for section in sections if section.name != SCORES), scores

    def observe(self, scores: FloatArray | None, asked: Asked, weight: float) -> None:
        """Take up the scores of a reply that was folded in with this weight."""
        if scores is None or asked.plan is None:
            return
        kept, scaled = self._kept(asked.plan.mask), np.zeros(self.units.count, dtype=np.float32)
        for group in self.units.groups:
            if scores[group.units].any():
                before = self._scores[group.units]
                mass = before[kept[group.units]].sum() if not kept[group.units].all() else 1.0
                scaled[group.units] = scores[group.units] * mass
            else:
                kept[group.units] = False  # nobody measured it here: no LoRA matrix touches it
        if kept.any():
            name = hashlib.sha256(np.packbits(kept).tobytes()).hexdigest()
            self._mean.add(scaled, weight, Held(name, np.flatnonzero(kept)))
            self._seen |= kept

    def finish(self, number: int) -> None:
        """End round `number`: smooth the scores, and take those for the plan of the next round if it is due then."""
        if self._seen.any():
            found = self._mean.mean().astype(np.float64)
            keep = np.where(self._measured, self.smoothing, 0.0)
            self._scores = np.where(self._seen, keep * self._scores + (1 - keep) * found, self._scores)
            self._scores = self.units.shares(self._scores)
            self._measured |= self._seen
        if self.ramp.planned(number + 1) == number + 1:
            self._planned = self._scores.copy()
            self._masks = {}

    def state(self) -> dict[str, npt.NDArray[Any]]:
        """What outlives a round."""
        return {"scores": self._scores, "planned": self._planned, "measured": self._measured}

    def restore(self, state: Mapping[str, npt.NDArray[Any]]) -> None:
        """Go on from what `state` returned."""
        self._scores, self._planned = state["scores"], state["planned"]
        self._measured = state["measured"]
        self._masks = {}

    def _kept(self, mask: bytes) -> npt.NDArray[np.bool_]:
        return unpack(mask, self.units.sizes) if mask else np.ones(self.units.count, dtype=bool)


def masked(plan: Plan | None) -> dict[str, Any]:
    """What `asked` says of a plan's mask: the ratio, and the mask's digest; and of what is frozen in its round."""
    frozen = {"frozen": list(plan.frozen)} if plan is not None and plan.frozen else {}
    if plan is None or not plan.mask:
        return frozen
    return frozen | {"pruning": plan.pruning, "mask": digest_of(plan.mask)}


def digest_of(mask: bytes) -> str:
    """By which the journal names a mask."""
    return hashlib.sha256(mask).hexdigest()


def _checked(scores: Any, units: Units, name: str) -> npt.NDArray[np.float64]:
    found = np.asarray(scores, dtype=np.float64)
    if found.shape != (units.count,) or not np.isfinite(found).all():
        raise PluginError(
            f'importance "{name}" gives scores of shape {found.shape}, or some that are not finite',
            code="plugin.importance-scores",
            allowed=f"finite numbers of shape ({units.count},)",
            remedy="correct its begin()",
        )
    return found


def _wrong(asked: Asked, what: str, allowed: str) -> ClientFault:
    return ClientFault(
        f"client {asked.client}: its update {what}",
        code="update.scores",
        allowed=allowed,
        remedy="install the same fedpeft and plug-ins on both sides",
    )


__all__ = ["Pruning", "PruningSettings", "masked"]
