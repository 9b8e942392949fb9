"""Codecs that leave something open which only data can tell: what one offers, and how a client has it search.

A codec sees a vector, and a small error of the vector need not be a small loss of the model. So a searching codec is
given a judge: it makes vectors as they would be decoded, and is told what each of them costs. What it chose is in its
body, so whoever decodes needs no judge and no knowledge of the choice.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol, TypeAlias, TypeGuard, runtime_checkable

from fedpeft.codecs.base import Codec
from fedpeft.types import FloatArray

Judge: TypeAlias = Callable[[FloatArray], float]
"""What a vector costs, shape (d,), as it would be decoded; less is better, NaN and infinity are worse than all else."""

CHOSEN = "codec."
"""How the names of those metrics of an update begin that tell what its codec chose."""


@dataclass(frozen=True, slots=True, eq=False)
class Found:
    """What a search ended with."""

    body: bytes
    decoded: FloatArray  # what the body decodes to, bit by bit, shape (d,)
    choice: Mapping[str, float]  # what was left open -> its value


@runtime_checkable
class SearchingCodec(Codec, Protocol):
    """A codec that can search. Optional: one without `search` encodes at once.

    Its `encode` is for who has nothing to judge by: a client with a single example.
    """

    @property
    def looks(self) -> int:
        """About how many vectors a search asks for: for the plan, and for a simulated device's time."""

    def search(self, values: FloatArray, judge: Judge, *, owed: bool) -> Found:
        """The body of a vector whose decoded form costs the least.

        Args:
            values: shape (d,), finite; not changed.
            judge: may keep nothing of what it is given.
            owed: what is lost is added to the next vector. Then nothing is chosen that loses more than there is,
                ‖x − x̂‖ > ‖x‖: what is owed would grow from round to round.
        """


def is_searching(codec: Codec) -> TypeGuard[SearchingCodec]:
    """Whether something is left for a codec to search; `isinstance` of a protocol looks at all members, each time."""
    return hasattr(codec, "search")


class Searched:
    """A searching codec with its judge, as whatever takes a codec takes it; for one vector.

    Args:
        codec: what searches.
        judge: of the vector.

    Attributes:
        choice: what was chosen; empty before.
    """

    def __init__(self, codec: SearchingCodec, judge: Judge) -> None:
        self.codec = codec
        self.judge = judge
        self.name = codec.name
        self.owes = getattr(codec, "owes", True)
        self.choice: Mapping[str, float] = {}
        self.decode = codec.decode
        self.max_bytes = codec.max_bytes
        self.nominal_bytes = codec.nominal_bytes

    def through(self, values: FloatArray) -> tuple[bytes, FloatArray]:
        """See `codecs.base.through`."""
        found = self.codec.search(values, self.judge, owed=self.owes)
        self.choice = found.choice
        return found.body, found.decoded

    def encode(self, values: FloatArray) -> bytes:
        """See `Codec.encode`."""
        return self.through(values)[0]


def choice_of(codec: Codec) -> dict[str, float]:
    """What a codec chose, as metrics of the update; nothing of one that had no choice, or no judge."""
    return {CHOSEN + name: value for name, value in codec.choice.items()} if isinstance(codec, Searched) else {}


def chosen(metrics: Mapping[str, float]) -> dict[str, float]:
    """The choice again, of an update's metrics."""
    return {name.removeprefix(CHOSEN): value for name, value in metrics.items() if name.startswith(CHOSEN)}
