"""Label skew by a Dirichlet draw, the usual measure of heterogeneity in federated learning.

For each label k, the shares of the N clients in its examples are drawn as p_k ~ Dir_N(α) (Yurochkin et al. 2019,
arXiv 1905.12022, section 4). Every example is dealt exactly once. It is the finite-sample form of Hsu et al. 2019
(arXiv 1909.06335, section 3.1), who instead draw each client's label mix as q ~ Dir(α p) and then sample from it with
equal client sizes; here sizes differ too. α -> infinity is the even deal; α -> 0 gives each label to one client.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from fedpeft.data.corpus import client_ids
from fedpeft.errors import DataError

_REDRAWS = 200


def dirichlet(
    labels: npt.NDArray[np.int64], clients: int, seed: int, *, alpha: float = 0.5, min_examples: int = 2
) -> list[npt.NDArray[np.int64]]:
    """Deal the examples of each label in Dirichlet shares.

    No client stays empty: as long as one has fewer than `min_examples`, the whole deal is drawn again from the same
    stream (as flwr-datasets does with its `min_partition_size`), 200 times at most.

    Args:
        labels: shape (n,).
        clients: N, number of parts.
        seed: of NumPy's Philox, whose draws are the same for one NumPy version (NEP 19).
        alpha: α > 0; 0.1 is strong skew, 1 mild, 100 nearly none.
        min_examples: each client gets at least so many, >= 1. The default leaves one to train on and one to keep.

    Returns:
        One sorted array of example indices for each client.

    Raises:
        DataError: no deal gave every client `min_examples`; names the client that had fewest.
        ValueError: `alpha` or `min_examples` is out of range.
    """
    if not (alpha > 0 and math.isfinite(alpha)):
        raise ValueError(f"alpha = {alpha} must be a number > 0")
    if min_examples < 1:
        raise ValueError(f"min_examples = {min_examples} must be at least 1")
    generator = np.random.Generator(np.random.Philox(seed))
    fewest, poorest = 0, 0
    redraws = _REDRAWS if clients * min_examples <= len(labels) else 1  # one is enough to name a client
    for _ in range(redraws):
        owners = _draw_owners(labels, clients, alpha, generator)
        sizes = np.bincount(owners, minlength=clients)
        if sizes.min() >= min_examples:
            order = np.argsort(owners, kind="stable").astype(np.int64)
            return np.split(order, np.cumsum(sizes)[:-1])
        fewest, poorest = int(sizes.min()), int(sizes.argmin())
    raise DataError(
        f"client {client_ids(clients)[poorest]} is left with {fewest or 'no'} examples, fewer than min_examples = "
        f"{min_examples}: {len(labels)} examples, {clients} clients, alpha = {alpha}, {redraws} draws",
        code="data.empty-client",
        allowed=f"at least {min_examples} examples for each client",
        remedy="use fewer clients or a larger alpha",
    )


def _draw_owners(
    labels: npt.NDArray[np.int64], clients: int, alpha: float, generator: np.random.Generator
) -> npt.NDArray[np.int64]:
    """The client of each example, shape (n,)."""
    owners = np.empty(len(labels), dtype=np.int64)
    for label in np.unique(labels):
        members = generator.permutation(np.flatnonzero(labels == label))
        shares = generator.dirichlet(np.full(clients, alpha))
        cuts = np.floor(np.cumsum(shares)[:-1] * len(members) + 0.5).astype(np.int64)
        owners[members] = np.searchsorted(cuts, np.arange(len(members)), side="right")
    return owners
