"""Shares written out: which part of each label's examples goes to which client.

    distribution_array[label][client] >= 0

is the shape that flwr-datasets' `DistributionPartitioner` takes. Rows need not add up to 1: they are proportions.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt


def distribution(
    labels: npt.NDArray[np.int64], clients: int, seed: int, *, distribution_array: Sequence[Sequence[float]]
) -> list[npt.NDArray[np.int64]]:
    """Deal the examples of each label in the given proportions.

    Args:
        labels: shape (n,).
        clients: number of parts.
        seed: of NumPy's Philox, whose draws are the same for one NumPy version (NEP 19); fixes which examples go where.
        distribution_array: a row for each label that occurs, in the order of their numbers; a column for each client.

    Returns:
        One sorted array of example indices for each client.

    Raises:
        ValueError: the array is not of that shape, is negative, or has a row of zeros.
    """
    values = np.unique(labels)
    try:
        shares = np.asarray(distribution_array, dtype=np.float64)
    except ValueError:
        raise ValueError("distribution_array has rows of different lengths") from None
    if shares.shape != (len(values), clients):
        raise ValueError(
            f"distribution_array has shape {shares.shape}; {len(values)} labels and {clients} clients need "
            f"{len(values)} rows of {clients} numbers"
        )
    if not np.isfinite(shares).all() or (shares < 0).any() or (shares.sum(axis=1) == 0).any():
        raise ValueError("distribution_array must hold finite numbers >= 0, and more than zeros in each row")
    generator = np.random.Generator(np.random.Philox(seed))
    owners = np.empty(len(labels), dtype=np.int64)
    for value, row in zip(values, shares, strict=True):
        members = generator.permutation(np.flatnonzero(labels == value))
        cuts = np.floor(np.cumsum(row / row.sum())[:-1] * len(members) + 0.5).astype(np.int64)
        owners[members] = np.searchsorted(cuts, np.arange(len(members)), side="right")
    return [np.flatnonzero(owners == client).astype(np.int64) for client in range(clients)]
