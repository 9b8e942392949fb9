"""How an update is read out of a reply, by the codec that its plan named: as a delta, or as a client's scalars.

Scalars come without their directions: which ones a client moved along follows from its plan, on both sides.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from fedpeft.codecs import CodedCodec, fitted
from fedpeft.codecs.base import Codec
from fedpeft.errors import ClientFault
from fedpeft.pruning.sent import Sent
from fedpeft.pruning.units import Units
from fedpeft.registry import build
from fedpeft.server.inflight import Asked
from fedpeft.server.post import decoding
from fedpeft.types import ClientId, FloatArray, Held, Layout, Update
from fedpeft.wire.frame import Frame
from fedpeft.zeroth.coordinates import Coordinates
from fedpeft.zeroth.replica import fingerprint

REPLICA = "replica"
"""The metric in which a zeroth-order client tells which model it started from, by its fingerprint."""


class Reading(Protocol):
    """Reads the updates of a run."""

    def published(self, version: int, vector: FloatArray, out: Collection[int]) -> None:
        """Be told what clients start from, before they are asked, and from which versions an answer is still out."""

    def update(self, frame: Frame, asked: Asked, auxiliary: Mapping[str, FloatArray]) -> Update:
        """The update in a reply.

        Raises:
            ClientFault: it holds none that an honest client sends; names the client.
        """


class PlannedCodecs:
    """The codecs that plans name. Each is built once: looking at its signature for each reply adds up.

    Args:
        sent: which values clients send, and of which tensors; None: what is coded has no tensors.
    """

    def __init__(self, sent: Sent | None = None) -> None:
        self._sent = sent
        self._codecs: dict[tuple[str, str], Codec] = {}

    def of(self, asked: Asked) -> tuple[str, Codec]:
        """The codec of a reply, and its name."""
        assert asked.plan is not None
        name, layout = asked.plan.codec, None if self._sent is None else self._sent.of(asked.plan).layout
        key = name, "" if layout is None else layout.digest
        if key not in self._codecs:
            codec: Codec = build("codec", name, {})
            self._codecs[key] = codec if layout is None else fitted(codec, layout)
        return name, self._codecs[key]


class DeltaReading:
    """A delta of the shared vector; where its codec allows, it stays in codes until somebody reads it.

    Args:
        layout: of the shared vector.
        units: of the model, where clients may be pruned: such a client sends the values that it holds, in order.
        merged: components of every LoRA layer that nobody trains or sends.
    """

    def __init__(self, layout: Layout, units: Units | None = None, merged: int = 0) -> None:
        self.size = layout.size
        self.sent = Sent(layout, units, merged)
        self.codecs = PlannedCodecs(self.sent)

    def published(self, version: int, vector: FloatArray, out: Collection[int]) -> None:
        """See `Reading.published`."""

    def update(self, frame: Frame, asked: Asked, auxiliary: Mapping[str, FloatArray]) -> Update:
        """See `Reading.update`."""
        portion = self.sent.of(asked.plan) if asked.plan is not None else None
        if portion is not None and portion.places is not None:
            return self._partial(frame, asked, auxiliary, portion.places, portion.held)
        name, codec = self.codecs.of(asked)
        check_body(frame, asked.client, name, codec, self.size)
        about = (frame.weight, frame.metrics, auxiliary)
        with decoding(asked.client, name, f"its {len(frame.body)} bytes"):
            if isinstance(codec, CodedCodec):
                return Update.of_codes(asked.client, asked.round, codec.view(frame.body, self.size), *about)
            return Update(asked.client, asked.round, codec.decode(frame.body, self.size), *about)

    def _partial(
        self, frame: Frame, asked: Asked, auxiliary: Mapping[str, FloatArray], sent: Held, held: Held | None
    ) -> Update:
        """An update of some of the values, in the coordinates of the whole vector."""
        size, (name, codec) = len(sent.places), self.codecs.of(asked)
        check_body(frame, asked.client, name, codec, size)
        delta = np.zeros(self.size, dtype=np.float32)
        with decoding(
            asked.client, name, f"its {len(frame.body)} bytes as the {size} values that its plan lets it send"
        ):
            delta[sent.places] = codec.decode(frame.body, size)
        return Update(asked.client, asked.round, delta, frame.weight, frame.metrics, auxiliary, held, sent)


@dataclass(frozen=True, slots=True)
class ScalarSettings:
    """What the coordinator of a zeroth-order run knows."""

    coordinates: Coordinates
    clip: float  # of a scalar's magnitude; a client that sends a larger one is refused
    digest: Callable[[FloatArray], str] | None = None  # hex, of the model that coefficients make; None: not known here
    deviations: float = 0.0  # scalars are bounded at the round's median ± so many MADs; 0: they are not


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class ScalarUpdate(Update):
    """An update that still says what it is made of."""

    places: npt.NDArray[np.int64]  # of the directions, shape (n,)
    scalars: FloatArray  # g along them, shape (n,), clipped
    learning_rate: float  # of its client


class ScalarReading:
    """Scalars, as what they add to the coefficients. Any codec serves, of a vector as long as there are scalars.

    Args:
        settings: of the run.
    """

    def __init__(self, settings: ScalarSettings) -> None:
        self.settings = settings
        self.codecs = PlannedCodecs()
        self._fingerprints: dict[int, int] = {}  # version -> of the model that it makes
        self._importances: dict[int, FloatArray] = {}  # version -> what its clients draw by

    def published(self, version: int, vector: FloatArray, out: Collection[int]) -> None:
        """See `Reading.published`."""
        named = {version, *out}
        self._fingerprints = {of: told for of, told in self._fingerprints.items() if of in named}
        self._importances = {of: told for of, told in self._importances.items() if of in named}
        if self.settings.digest is not None and version not in self._fingerprints:
            self._fingerprints[version] = fingerprint(self.settings.digest(vector))
        self._importances[version] = vector[: self.settings.coordinates.first].copy()

    def update(self, frame: Frame, asked: Asked, auxiliary: Mapping[str, FloatArray]) -> Update:
        """See `Reading.update`."""
        client, plan = asked.client, asked.plan
        assert plan is not None
        self._check_replica(frame, client, plan.version)
        places = self.settings.coordinates.drawn(plan, self._importances[plan.version])
        name, codec = self.codecs.of(asked)
        check_body(frame, client, name, codec, len(places))
        with decoding(client, name, f"its {len(frame.body)} bytes"):
            scalars = codec.decode(frame.body, len(places))
        self._check_sizes(scalars, client)
        clipped = np.clip(scalars, -self.settings.clip, self.settings.clip)
        delta = self.settings.coordinates.moved(places, clipped, plan.learning_rate)
        about = (client, asked.round, delta, frame.weight, frame.metrics, auxiliary)
        return ScalarUpdate(*about, places=places, scalars=clipped, learning_rate=plan.learning_rate)

    def _check_replica(self, frame: Frame, client: ClientId, version: int) -> None:
        ours, theirs = self._fingerprints.get(version), frame.metrics.get(REPLICA)
        if ours is not None and theirs != ours:
            told = "does not say which model it" if theirs is None else f"says that model {int(theirs):012x} is what it"
            raise ClientFault(
                f"client {client} {told} started from as version {version}; the coordinator's is {ours:012x}",
                code="client.replica-differs",
                allowed="the same model, bit by bit, on both sides",
                remedy="none needed if it was an accident: it is given the whole pool the next time it is asked; "
                "else install the same fedpeft and base model on both sides",
            )

    def _check_sizes(self, scalars: FloatArray, client: ClientId) -> None:
        largest = float(np.abs(scalars).max(initial=0.0))
        if not largest <= 1.01 * self.settings.clip:  # NaN too; a lossy codec may round up a little
            raise ClientFault(
                f"client {client} sent a scalar of magnitude {largest:g}",
                code="guard.scalar",
                allowed=f"at most zeroth.clip = {self.settings.clip:g}",
                remedy="raise zeroth.clip if such losses are honest",
            )


def check_body(frame: Frame, client: ClientId, name: str, codec: Codec, size: int) -> None:
    """Refuse a body of another codec, or of more bytes than the codec makes of `size` values.

    Raises:
        ClientFault: code `codec.unexpected`.
    """
    most = codec.max_bytes(size)
    if frame.codec != name or len(frame.body) > most:
        raise ClientFault(
            f"client {client} sent {len(frame.body)} bytes of codec {frame.codec!r}",
            code="codec.unexpected",
            allowed=f"at most {most} bytes of {name!r}",
        )
