"""The even deal: shuffle once, cut into equal parts. Label mixes are alike and sizes differ by one at most."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from fedpeft.data.corpus import client_ids
from fedpeft.errors import DataError


def iid(labels: npt.NDArray[np.int64], clients: int, seed: int) -> list[npt.NDArray[np.int64]]:
    """Deal the examples evenly, whatever their labels.

    Args:
        labels: shape (n,); only n matters.
        clients: number of parts.
        seed: of NumPy's Philox, whose draws are the same for one NumPy version (NEP 19).

    Returns:
        One sorted array of example indices for each client, sizes floor(n / clients) or one more.

    Raises:
        DataError: there are more clients than examples.
    """
    if clients > len(labels):
        raise DataError(
            f"client {client_ids(clients)[len(labels)]} is left with no examples: "
            f"{len(labels)} examples do not go round {clients} clients",
            code="data.empty-client",
            allowed=f"1 to {len(labels)} clients",
            remedy="use fewer clients",
        )
    order = np.random.Generator(np.random.Philox(seed)).permutation(len(labels)).astype(np.int64)
    return [np.sort(part) for part in np.array_split(order, clients)]
