"""Clients as the data have them: a client for each value of a column, e.g. a user, a writer, a hospital.

flwr-datasets calls it `NaturalIdPartitioner`. The column is `data.partition.partition_by`; with `data.partition.map` it
is translated first, e.g. from a label to its domain.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from fedpeft.errors import DataError


def natural_id(labels: npt.NDArray[np.int64], clients: int, seed: int) -> list[npt.NDArray[np.int64]]:
    """Give each client all examples of one value; clients in the sorted order of the values.

    Args:
        labels: shape (n,), the number of each example's value, 0, 1, ... in the sorted order of the values.
        clients: number of parts, the number of different values.
        seed: nothing is left to chance.

    Returns:
        One sorted array of example indices for each client.

    Raises:
        DataError: there are more or fewer values than clients.
    """
    values, counts = np.unique(labels, return_counts=True)
    if len(values) != clients:
        raise DataError(
            f"the data have {len(values)} natural clients, and the clients of [[devices]] add up to {clients}",
            code="data.natural-clients",
            allowed=f"{len(values)} clients over all [[devices]]",
            remedy=f"change the clients of the [[devices]] classes so that they add up to {len(values)}",
        )
    return np.split(np.argsort(labels, kind="stable").astype(np.int64), np.cumsum(counts)[:-1])
