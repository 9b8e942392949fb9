"""What every partitioner promises."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
import numpy.typing as npt


class Partitioner(Protocol):
    """A function that deals n labelled examples to clients. Its further parameters come from the run file.

    What it takes for labels need not be those that a model learns: a run file may name any column
    (`data.partition.partition_by`), e.g. a topic or a writer. Prompts have none; there all labels are 0.

    Each example goes to exactly one client, each client gets at least one, and equal arguments give equal parts.
    A partitioner of one's own, in a file that a run file names as `data.partition = { name = "cards.py:cards" }`:

    >>> import numpy as np
    >>> def cards(labels, clients, seed, *, start=0):
    ...     owners = (np.arange(len(labels)) + start) % clients
    ...     return [np.flatnonzero(owners == client) for client in range(clients)]
    >>> [part.tolist() for part in cards(np.array([0, 1, 1, 0, 2]), clients=2, seed=7)]
    [[0, 2, 4], [1, 3]]
    """

    def __call__(
        self, labels: npt.NDArray[np.int64], clients: int, seed: int, **params: Any
    ) -> list[npt.NDArray[np.int64]]:
        """Deal the examples.

        Args:
            labels: shape (n,), of each example what it is dealt by, as numbers from 0 in the order of their names.
            clients: number of parts, >= 1.
            seed: uint64; the only source of chance.
            **params: the partitioner's own, e.g. `alpha`.

        Returns:
            One array of example indices for each client, together a permutation of 0..n-1.

        Raises:
            DataError: a client would be left with too few examples.
            ValueError: a parameter is out of range.
        """
