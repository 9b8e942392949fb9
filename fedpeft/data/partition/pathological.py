"""A few labels for each client: the pathological split, with flwr-datasets' parameters (`PathologicalPartitioner`).

Each client is assigned k labels; the examples of a label are shared out evenly among the clients that have it. Where
flwr-datasets drops the examples of a label that fell to nobody, every label finds a client here, or it is an error.
"""

from __future__ import annotations

import operator

import numpy as np
import numpy.typing as npt

from fedpeft.errors import DataError

MODES = ("random", "deterministic", "first-deterministic")


def pathological(
    labels: npt.NDArray[np.int64],
    clients: int,
    seed: int,
    *,
    num_classes_per_partition: int = 2,
    class_assignment_mode: str = "random",
) -> list[npt.NDArray[np.int64]]:
    """Deal the examples so that each client has k labels only.

    Args:
        labels: shape (n,).
        clients: number of parts.
        seed: of NumPy's Philox, whose draws are the same for one NumPy version (NEP 19).
        num_classes_per_partition: k, from 1 to the number of different labels.
        class_assignment_mode: "random"; "deterministic": client i has labels i, i + 1, ..., i + k - 1, counted round;
            "first-deterministic": client i has label i, and k - 1 others at random.

    Returns:
        One sorted array of example indices for each client.

    Raises:
        DataError: there are more labels than places for them, or a label has fewer examples than clients that share it.
        ValueError: a parameter is out of range.
    """
    if class_assignment_mode not in MODES:
        raise ValueError(f'class_assignment_mode = "{class_assignment_mode}" must be one of {", ".join(MODES)}')
    values, codes = np.unique(labels, return_inverse=True)
    k = operator.index(num_classes_per_partition)
    if not 1 <= k <= len(values):
        raise ValueError(f"num_classes_per_partition = {k} must be from 1 to {len(values)}, the number of labels")
    if clients * k < len(values):
        raise DataError(
            f"{clients} clients of {k} labels have {clients * k} places for {len(values)} labels",
            code="data.labels-left",
            allowed="a client for each label",
            remedy=f"set data.partition.num_classes_per_partition to at least {-(-len(values) // clients)}",
        )
    generator = np.random.Generator(np.random.Philox(seed))
    held = _assign(class_assignment_mode, clients, k, len(values), generator)
    parts: list[list[npt.NDArray[np.int64]]] = [[] for _ in range(clients)]
    for label in range(len(values)):
        members = generator.permutation(np.flatnonzero(codes == label)).astype(np.int64)
        owners = np.flatnonzero(held[:, label])
        if len(members) < len(owners):
            raise DataError(
                f"client c{owners[len(members)]:02d} is left with no examples of label number {label}: "
                f"{len(members)} examples do not go round the {len(owners)} clients that share it; "
                f"there are {len(labels)} examples",
                code="data.empty-client",
                allowed=f"at most {len(members)} clients to a label",
                remedy="use fewer clients, or fewer labels for each",
            )
        for owner, share in zip(owners, np.array_split(members, len(owners)), strict=True):
            parts[owner].append(share)
    return [np.sort(np.concatenate(part)) for part in parts]


def _assign(mode: str, clients: int, k: int, labels: int, generator: np.random.Generator) -> npt.NDArray[np.bool_]:
    """Which client has which label, shape (clients, labels), k in each row and at least one in each column."""
    held = np.zeros((clients, labels), dtype=np.bool_)
    if mode == "deterministic":
        for client in range(clients):
            held[client, (client + np.arange(k)) % labels] = True
    elif mode == "first-deterministic":
        held[np.arange(clients), np.arange(clients) % labels] = True
    for label in generator.permutation(np.flatnonzero(~held.any(axis=0))):  # a place for each label first
        counts = held.sum(axis=1)
        open_places = np.flatnonzero(counts < k)
        if len(open_places) == 0:
            raise DataError(
                f'class_assignment_mode = "{mode}" leaves label number {label} to no client: {clients} clients take '
                f"{k} labels each, out of {labels}",
                code="data.labels-left",
                allowed="a client for each label",
                remedy='use more clients, or data.partition.class_assignment_mode = "random"',
            )
        fewest = open_places[counts[open_places] == counts[open_places].min()]
        held[generator.choice(fewest), label] = True
    for client in range(clients):
        missing = k - int(held[client].sum())
        held[client, generator.choice(np.flatnonzero(~held[client]), missing, replace=False)] = True
    return held
