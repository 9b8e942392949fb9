"""In which form a client is told the current version: what changed, everything, or a checkpoint (zeroth order).

A checkpoint is θ_e in the place of the coefficients of the first e epochs, which are *sealed*: no plan that is out
names one of them, and the last commit changed none of their published coefficients. A momentum of the server moves
closed epochs for some rounds more; meanwhile their coefficients are sent as ever. Whether an epoch is sealed changes no
bit of the model: if a late answer moves one after all, whoever holds a checkpoint of it is told everything anew, in the
form that is shorter then.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np

from fedpeft.codecs.coefficients import CoefficientDownlink, WholeNumbers
from fedpeft.codecs.weights import PIECE, pack
from fedpeft.types import FloatArray
from fedpeft.zeroth.checkpoint import LEAST, digest_of
from fedpeft.zeroth.coordinates import Coordinates

Form: TypeAlias = Literal["changes", "everything", "checkpoint"]
"""`changes` since a version that the client holds; `everything` since version 0."""


@dataclass(frozen=True, slots=True)
class Told:
    """What one client is sent of the current version."""

    base: int  # the version that it must hold; 0: none
    body: bytes
    form: Form
    past: int = 0  # epochs for whose coefficients it will hold a checkpoint


@dataclass(frozen=True, slots=True)
class CheckpointSettings:
    """What a coordinator needs to send checkpoints."""

    coordinates: Coordinates
    initial: FloatArray  # θ_0, shape (d,)
    after: Callable[[FloatArray, int], FloatArray]  # coefficients, e -> θ_e, shape (d,)
    worth: float  # a checkpoint is sent where it has fewer bytes than so many times the coefficients
    most: int  # bytes that a frame's body may have


class Checkpoints:
    """Seals epochs, and makes checkpoints of them.

    Keeps the packed θ_e of one e, and a version's body with it: at most 8 bytes a weight, where one is sent at all.

    Args:
        settings: of the run.

    Attributes:
        sealed: e, how many of the first epochs are sealed in the current version.
    """

    def __init__(self, settings: CheckpointSettings) -> None:
        self.settings = settings
        self.sealed = 0
        own = settings.coordinates
        self.downlink = CoefficientDownlink(own.size, own.first)
        self._packed: tuple[bytes, bytes, bytes] = (b"", b"", b"")  # coefficients, SHA-256(θ_e), θ_e
        self._body: tuple[WholeNumbers, bytes] | None = None  # of the current version

    def publish(self, version: int, new: WholeNumbers, before: WholeNumbers | None, out: Collection[int]) -> None:
        """Seal what can be sealed in a version.

        Args:
            version: the round that ended in it.
            new: its coefficients.
            before: those of the version before it; None: not known, so nothing is sealed.
            out: the versions that the plans which are out started from.
        """
        own = self.settings.coordinates
        # What a client trains for itself after the last round belongs to that round's epoch.
        open_epoch = min(own.epoch(max(version, 1)), *(own.epoch(started + 1) for started in out), own.epochs)
        self._body = None
        unchanged = 0 if before is None else self._alike(new, before)
        self.sealed = min(open_epoch, unchanged)

    def agree(self, new: WholeNumbers, base: WholeNumbers, epochs: int) -> bool:
        """Whether the coefficients of the first epochs are the same."""
        return self._alike(new, base) >= epochs

    def body(self, new: WholeNumbers, base: WholeNumbers, coefficients: int) -> bytes | None:
        """The checkpoint of the current version; None where it is not worth its bytes.

        It is looked for where the coefficients take more than a byte for each weight that has moved: θ_e never takes
        much less, and nobody waits for what will not be sent. Where it is worth more than its bytes, that is for the
        passes that it saves: to a client that has all sealed epochs it is worth its bytes at most.

        Args:
            new: the current version.
            base: what the client holds.
            coefficients: bytes of the other form.
        """
        own, worth = self.settings.coordinates, self.settings.worth
        if self.sealed * own.size < LEAST:
            return None
        if self.agree(new, base, self.sealed):
            worth = min(worth, 1.0)
        allowed = min(worth * coefficients, self.settings.most + 1)
        closed = new.values[own.first : own.begin(self.sealed)].tobytes()
        if self._packed[0] != closed:
            theta = self.settings.after(self.downlink.dequantise(new), self.sealed)
            if not _fewer_moved(theta, self.settings.initial, allowed):
                return None
            self._packed = (closed, digest_of(theta), pack(theta, self.settings.initial))
        _, digest, packed = self._packed
        if allowed <= len(packed):
            return None
        if self._body is None or self._body[0] is not new:  # one for all of its clients, whatever they hold
            self._body = (new, self.downlink.encode_checkpoint(new, self.sealed, digest, packed))
        return self._body[1] if len(self._body[1]) < allowed else None

    def _alike(self, new: WholeNumbers, base: WholeNumbers) -> int:
        """How many of the first epochs have the same coefficients."""
        own = self.settings.coordinates
        changed = np.flatnonzero(new.values[own.first :] != base.values[own.first :])
        return int(changed[0]) // own.size if changed.size else own.epochs


def _fewer_moved(theta: FloatArray, initial: FloatArray, most: float) -> bool:
    """Whether fewer weights than that have moved; it looks no further than it must."""
    moved = 0
    for place in range(0, len(theta), PIECE):
        moved += int(np.count_nonzero(theta[place : place + PIECE] != initial[place : place + PIECE]))
        if moved >= most:
            return False
    return True
