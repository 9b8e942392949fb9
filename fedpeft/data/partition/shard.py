"""Shards: sort the examples by label, cut them into equal pieces, give each client a few.

The non-IID split of the FedAvg paper (McMahan et al. 2017, arXiv 1602.05629, section 3: MNIST in 200 shards, two for
each of 100 clients), with the names of flwr-datasets' `ShardPartitioner`. Every example is dealt: the last shard may be
smaller, which flwr-datasets calls `keep_incomplete_shard`.
"""

from __future__ import annotations

import operator

import numpy as np
import numpy.typing as npt

from fedpeft.data.corpus import client_ids
from fedpeft.errors import DataError


def shard(
    labels: npt.NDArray[np.int64],
    clients: int,
    seed: int,
    *,
    num_shards_per_partition: int | None = None,
    shard_size: int | None = None,
) -> list[npt.NDArray[np.int64]]:
    """Deal shards of neighbouring labels.

    Args:
        labels: shape (n,).
        clients: number of parts.
        seed: of NumPy's Philox, whose draws are the same for one NumPy version (NEP 19).
        num_shards_per_partition: shards that each client gets; their sizes differ by one at most. Default: 2.
        shard_size: examples in a shard, in place of it; some clients get a shard more than others.

    Returns:
        One sorted array of example indices for each client.

    Raises:
        DataError: there are fewer shards than clients, or fewer examples than shards.
        ValueError: both parameters are given, or one is below 1.
    """
    if num_shards_per_partition is not None and shard_size is not None:
        raise ValueError("num_shards_per_partition and shard_size are two ways of saying one thing: give one of them")
    if shard_size is not None:
        if shard_size < 1:
            raise ValueError(f"shard_size = {shard_size} must be at least 1")
        shards = -(-len(labels) // operator.index(shard_size))
        cuts = np.arange(shard_size, len(labels), shard_size)
    else:
        each = 2 if num_shards_per_partition is None else operator.index(num_shards_per_partition)
        if each < 1:
            raise ValueError(f"num_shards_per_partition = {each} must be at least 1")
        shards = clients * each
        cuts = np.cumsum([len(labels) // shards + (i < len(labels) % shards) for i in range(shards)])[:-1]
    if shards < clients or shards > len(labels):
        raise DataError(
            f"client {client_ids(clients)[min(shards, len(labels), clients - 1)]} is left with no examples: "
            f"{len(labels)} examples in {shards} shards do not go round {clients} clients",
            code="data.empty-client",
            allowed="at least one shard for each client, and one example in each shard",
            remedy="use fewer clients, or smaller shards" if shards < clients else "use fewer clients, or fewer shards",
        )
    generator = np.random.Generator(np.random.Philox(seed))
    shuffled = generator.permutation(len(labels))  # so that which examples of a label share a shard is left to chance
    order = shuffled[np.argsort(labels[shuffled], kind="stable")].astype(np.int64)
    pieces = np.split(order, cuts)
    dealt = generator.permutation(shards)
    return [np.sort(np.concatenate([pieces[piece] for piece in dealt[client::clients]])) for client in range(clients)]
