"""Quantity skew: clients of very different sizes, whatever the labels; flwr-datasets' partitioners of these names.

Client i = 0, 1, ... gets a share of the examples in proportion to

    linear: i + 1        square: (i + 1)^2        exponential: e^i

of all of them, shuffled once; nobody gets fewer than `min_examples`, which the largest clients make up for.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from fedpeft.data.corpus import client_ids
from fedpeft.errors import DataError


def linear(
    labels: npt.NDArray[np.int64], clients: int, seed: int, *, min_examples: int = 2
) -> list[npt.NDArray[np.int64]]:
    """Sizes in proportion to i + 1. See `by_weights`."""
    return by_weights(labels, np.arange(1.0, clients + 1), seed, min_examples)


def square(
    labels: npt.NDArray[np.int64], clients: int, seed: int, *, min_examples: int = 2
) -> list[npt.NDArray[np.int64]]:
    """Sizes in proportion to (i + 1)^2. See `by_weights`."""
    return by_weights(labels, np.arange(1.0, clients + 1) ** 2, seed, min_examples)


def exponential(
    labels: npt.NDArray[np.int64], clients: int, seed: int, *, min_examples: int = 2
) -> list[npt.NDArray[np.int64]]:
    """Sizes in proportion to e^i. See `by_weights`."""
    return by_weights(labels, np.exp(np.arange(clients) - float(clients)), seed, min_examples)


def by_weights(
    labels: npt.NDArray[np.int64], weights: npt.NDArray[np.float64], seed: int, min_examples: int
) -> list[npt.NDArray[np.int64]]:
    """Shuffle the examples and cut them in proportion to weights.

    Args:
        labels: shape (n,); only n matters.
        weights: shape (clients,), >= 0, not all 0.
        seed: of NumPy's Philox, whose draws are the same for one NumPy version (NEP 19).
        min_examples: each client gets at least so many, >= 1. The default leaves one to train on and one to keep.

    Returns:
        One sorted array of example indices for each client.

    Raises:
        DataError: there are fewer than `min_examples` for each client.
        ValueError: `min_examples` is below 1.
    """
    clients, count = len(weights), len(labels)
    if min_examples < 1:
        raise ValueError(f"min_examples = {min_examples} must be at least 1")
    if clients * min_examples > count:
        raise DataError(
            f"client {client_ids(clients)[count // min_examples]} is left with "
            f"{count % min_examples or 'no'} examples: {count} examples do not go round {clients} clients "
            f"with at least {min_examples} each",
            code="data.empty-client",
            allowed=f"1 to {count // min_examples} clients",
            remedy="use fewer clients",
        )
    # What is left once everyone has the minimum is filled up to the proportions, the largest remainders first.
    wanted = weights / weights.sum() * count
    above = np.maximum(wanted - min_examples, 0)
    spare = count - clients * min_examples
    more = above / above.sum() * spare if above.sum() else np.full(clients, spare / clients)
    sizes = min_examples + np.floor(more).astype(np.int64)
    left = count - int(sizes.sum())
    sizes[np.argsort(-(more - np.floor(more)), kind="stable")[:left]] += 1
    order = np.random.Generator(np.random.Philox(seed)).permutation(count).astype(np.int64)
    return [np.sort(part) for part in np.split(order, np.cumsum(sizes)[:-1])]
