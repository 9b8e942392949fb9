"""The corpus of a federation as plain data: examples, clients, one common test set."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from fedpeft.data.examples import Examples, ImageExamples, PromptExamples, TextExamples
from fedpeft.errors import DataError
from fedpeft.types import ClientId

__all__ = ["ClientData", "Corpus", "Examples", "ImageExamples", "PromptExamples", "TextExamples", "client_ids"]


@dataclass(frozen=True, slots=True, eq=False)
class ClientData:
    """One client's own examples."""

    train: Examples
    test: Examples  # held out by the client for its own evaluation; may be empty


@dataclass(frozen=True, slots=True, eq=False)
class Corpus:
    """All that a simulated federation learns from and is measured on.

    Raises:
        DataError: a label name comes twice, a label is out of range, or a client has nothing to train on.
    """

    label_names: tuple[str, ...]  # plain words for the model to read: "card arrival"; empty where there are no labels
    clients: Mapping[ClientId, ClientData]  # in the order of their ids
    test: Examples  # of people, or from a file, that no client holds
    description: str  # one line for the plan and the report; says "synthetic" where it is
    owners: Mapping[ClientId, str] = field(default_factory=dict)  # what the data call a client, where it has a name

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

    def _check_labels(self, owner: str, examples: Examples) -> None:
        if isinstance(examples, PromptExamples):
            return
        labels = set(examples.labels.tolist())
        if isinstance(examples, TextExamples) and examples.choices is not None:
            labels.update(label for choice in set(examples.choices) for label in choice)
        wrong = sorted(label for label in labels if not 0 <= label < len(self.label_names))
        if wrong:
            raise DataError(
                f"{owner} has label {wrong[0]}, and there are {len(self.label_names)} label names",
                code="data.label-range",
                allowed=f"0 to {len(self.label_names) - 1}",
                remedy="name every label in label_names",
            )


def client_ids(count: int) -> tuple[ClientId, ...]:
    """`c00`, `c01`, ...: zero-padded to one width (at least two digits), so that they sort as they count."""
    width = max(2, len(str(count - 1)))
    return tuple(ClientId(f"c{index:0{width}d}") for index in range(count))
