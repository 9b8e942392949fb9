"""Call the partitioner that a run file names, with its parameters, and hold it to its contract."""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np
import numpy.typing as npt

from fedpeft import registry
from fedpeft.config import PluginTable
from fedpeft.data.corpus import client_ids
from fedpeft.data.partition.contract import Partitioner
from fedpeft.errors import DataError, PluginError, closest

_GIVEN = ("labels", "clients", "seed")


def deal(partition: PluginTable, labels: npt.NDArray[np.int64], clients: int, seed: int) -> list[npt.NDArray[np.int64]]:
    """Deal n examples to clients as `data.partition` says.

    Args:
        partition: the partitioner's name and parameters.
        labels: shape (n,).
        clients: number of clients.
        seed: of the run.

    Returns:
        For each client the sorted indices of its examples; each index is in exactly one of them, none is empty.

    Raises:
        DataError: a client is left with too few examples.
        PluginError: the partitioner is not known, refuses its parameters, or loses or doubles examples.
    """
    partitioner = load_partitioner(partition)
    try:
        parts = partitioner(labels, clients, seed, **partition.params)
    except (TypeError, ValueError) as error:
        raise PluginError(
            f'data.partition: partitioner "{partition.name}" refused its parameters {partition.params}: {error}',
            code="plugin.partitioner-parameter",
            allowed=", ".join(_own_parameters(partitioner)) or "no parameters",
            remedy="correct data.partition in the run file",
        ) from error
    return _check_parts(partition.name, parts, len(labels), clients)


def load_partitioner(partition: PluginTable) -> Partitioner:
    """The partitioner of that name, which has the parameters that are given.

    Raises:
        PluginError: it is not known, or lacks a parameter of that name.
    """
    partitioner: Partitioner = registry.load("partitioner", partition.name)
    _check_parameters(partition, partitioner)
    return partitioner


def _own_parameters(partitioner: Partitioner) -> list[str]:
    return [name for name in inspect.signature(partitioner).parameters if name not in _GIVEN]


def _check_parameters(partition: PluginTable, partitioner: Partitioner) -> None:
    known = _own_parameters(partitioner)
    for key, value in partition.params.items():
        if key not in known:
            raise PluginError(
                f'data.partition: partitioner "{partition.name}" has no parameter {key} (= {value!r})',
                code="plugin.partitioner-parameter",
                allowed=", ".join(known) or "no parameters",
                remedy=closest(key, known) or f"remove data.partition.{key}",
            )


def _check_parts(name: str, parts: Any, count: int, clients: int) -> list[npt.NDArray[np.int64]]:
    arrays = [np.sort(np.asarray(part, dtype=np.int64)) for part in parts]
    if len(arrays) != clients:
        found = f"{len(arrays)} parts for {clients} clients"
    elif not np.array_equal(np.sort(np.concatenate(arrays)), np.arange(count)):
        found = f"parts that lose or double some of the {count} examples"
    else:
        for client, array in zip(client_ids(clients), arrays, strict=True):
            if array.size == 0:
                raise DataError(
                    f'client {client} is left with no examples by partitioner "{name}", of {count} examples',
                    code="data.empty-client",
                    allowed="at least 1 example for each client",
                    remedy="use fewer clients, or deal more evenly",
                )
        return arrays
    raise PluginError(
        f'partitioner "{name}" returned {found}',
        code="plugin.partitioner-contract",
        allowed="one index array for each client, together every index from 0 to n-1 exactly once",
        remedy="correct the partitioner",
    )
