"""Who holds how much of what: a corpus' training examples counted by client and label, small enough for a journal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fedpeft.data.corpus import Corpus
from fedpeft.data.examples import PromptExamples

MOST_CLIENTS = 1000  # of a larger federation every so manieth is counted


@dataclass(frozen=True, slots=True)
class DataSplit:
    """Counts of a federation's training examples."""

    labels: tuple[str, ...]  # names; empty where examples have no labels
    clients: tuple[str, ...]  # "c03", or "c03 banking" where the data name their clients
    sizes: tuple[int, ...]  # training examples of each client
    counts: tuple[tuple[int, ...], ...]  # of each client: label, examples, label, examples, ...; only what there is
    of: int  # clients of the federation; more than there are in `clients` where not all are counted

    def to_payload(self) -> dict[str, Any]:
        """The counts as JSON values."""
        return {
            "labels": list(self.labels),
            "clients": list(self.clients),
            "sizes": list(self.sizes),
            "counts": [list(row) for row in self.counts],
            "of": self.of,
        }

    @classmethod
    def from_payload(cls, payload: Mapping[str, Any]) -> DataSplit:
        """The counts that `to_payload` wrote."""
        return cls(
            labels=tuple(payload["labels"]),
            clients=tuple(payload["clients"]),
            sizes=tuple(payload["sizes"]),
            counts=tuple(tuple(row) for row in payload["counts"]),
            of=payload["of"],
        )


def split_of(corpus: Corpus) -> DataSplit:
    """Count the training examples of a corpus; of more than `MOST_CLIENTS` clients, of an even choice of them."""
    chosen = _evenly([*corpus.clients], MOST_CLIENTS)
    rows, sizes = [], []
    for client in chosen:
        examples = corpus.clients[client].train
        sizes.append(len(examples))
        if isinstance(examples, PromptExamples):
            rows.append(())
            continue
        labels, counts = np.unique(examples.labels, return_counts=True)
        rows.append(tuple(np.stack([labels, counts], axis=1).ravel().tolist()))
    return DataSplit(
        labels=corpus.label_names,
        clients=tuple(f"{client} {corpus.owners[client]}" if client in corpus.owners else client for client in chosen),
        sizes=tuple(sizes),
        counts=tuple(rows),
        of=len(corpus.clients),
    )


def _evenly(items: Sequence[Any], most: int) -> list[Any]:
    if len(items) <= most:
        return list(items)
    return [items[place * len(items) // most] for place in range(most)]
