"""The corpus of a federation as plain data: examples, clients, one common test set."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fedpeft.errors import DataError
from fedpeft.types import ClientId


@dataclass(frozen=True, slots=True, eq=False)
class TextExamples:
    """One split: n texts and their labels.

    Raises:
        DataError: there is not exactly one label for each text.
    """

    texts: tuple[str, ...]
    labels: npt.NDArray[np.int64]  # shape (n,), index into Corpus.label_names; a read-only copy of what was given

    def __post_init__(self) -> None:
        labels = np.array(self.labels, dtype=np.int64)
        if labels.shape != (len(self.texts),):
            raise DataError(
                f"{len(self.texts)} texts came with labels of shape {labels.shape}",
                code="data.shape",
                allowed=f"shape ({len(self.texts)},)",
                remedy="give one label for each text",
            )
        labels.setflags(write=False)
        object.__setattr__(self, "labels", labels)

    def __len__(self) -> int:
        return len(self.texts)

    def take(self, indices: Sequence[int] | npt.NDArray[np.int64]) -> TextExamples:
        """The examples at `indices`, in that order; an index may come twice.

        Raises:
            IndexError: an index is not in [-n, n).
        """
        positions = np.asarray(indices, dtype=np.int64)
        return TextExamples(tuple(self.texts[position] for position in positions), self.labels[positions])


@dataclass(frozen=True, slots=True, eq=False)
class ClientData:
    """One client's own examples."""

    train: TextExamples
    test: TextExamples  # held out by the client for its own evaluation; may be empty


@dataclass(frozen=True, slots=True, eq=False)
class Corpus:
    """All that a simulated federation learns from and is measured on.

    Raises:
        DataError: a label name comes twice, a label is out of range, or a client has nothing to train on.
    """

    label_names: tuple[str, ...]  # plain words for the model to read: "card arrival", not "card_arrival"
    clients: Mapping[ClientId, ClientData]  # in the order of their ids
    test: TextExamples  # of people, or from a file, that no client holds
    description: str  # one line for the plan and the report; says "synthetic" where it is

    def __post_init__(self) -> None:
        if len(set(self.label_names)) < len(self.label_names):
            twice = sorted({name for name in self.label_names if self.label_names.count(name) > 1})
            raise DataError(
                f"label name {twice[0]!r} comes twice",
                code="data.label-twice",
                allowed="one name for each label",
                remedy="rename one of them",
            )
        self._check_labels("the test set", self.test)
        for client, data in self.clients.items():
            if len(data.train) == 0:
                raise DataError(
                    f"client {client} is left with no training examples",
                    code="data.empty-client",
                    allowed="at least 1 for each client",
                    remedy="use fewer clients, or deal more evenly (dirichlet: a larger alpha)",
                )
            self._check_labels(f"client {client}", data.train)
            self._check_labels(f"client {client}", data.test)

    def _check_labels(self, owner: str, examples: TextExamples) -> None:
        wrong = examples.labels[(examples.labels < 0) | (examples.labels >= len(self.label_names))]
        if wrong.size:
            raise DataError(
                f"{owner} has label {int(wrong[0])}, and there are {len(self.label_names)} label names",
                code="data.label-range",
                allowed=f"0 to {len(self.label_names) - 1}",
                remedy="name every label in label_names",
            )


def client_ids(count: int) -> tuple[ClientId, ...]:
    """`c00`, `c01`, ...: zero-padded to one width (at least two digits), so that they sort as they count."""
    width = max(2, len(str(count - 1)))
    return tuple(ClientId(f"c{index:0{width}d}") for index in range(count))
