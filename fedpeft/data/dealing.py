"""Rows of a training and a test file -> a corpus: labels numbered, examples built, dealt to the run's clients."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from fedpeft import registry
from fedpeft.config import DataTable, PartitionTable, RunConfig
from fedpeft.data.building import build_examples, group_numbers
from fedpeft.data.columns import ColumnReader
from fedpeft.data.corpus import ClientData, Corpus, client_ids
from fedpeft.data.draws import Draws
from fedpeft.data.examples import Examples, ExamplesKind
from fedpeft.data.holdout import hold_out
from fedpeft.data.labelling import Labelling, find_labels
from fedpeft.data.partition.deal import deal
from fedpeft.data.readers.contract import DataFile, Row
from fedpeft.errors import ConfigError, DataError
from fedpeft.types import ClientId

_BY_LABEL = ("dirichlet", "pathological", "shard", "natural-id")  # partitioners that mean nothing without labels

Groups = tuple[npt.NDArray[np.int64], tuple[str, ...]]  # of each row the number it is dealt by; what the numbers mean


def examples_kind(config: RunConfig) -> ExamplesKind:
    """Which examples the run's task reads: its class attribute `examples`, "text" where it has none.

    Raises:
        PluginError: there is no such task.
    """
    kind: ExamplesKind = getattr(registry.load("task", config.model.task), "examples", "text")
    return kind


def corpus_of(
    config: RunConfig,
    train: Sequence[Row],
    test: Sequence[Row] | None,
    *,
    origin: tuple[str, str],
    folder: Path | None,
    label_names: Sequence[str] | None = None,
    numbered: bool = False,
) -> Corpus:
    """Deal rows to the clients of a run.

    Args:
        config: of the run; `data.partition` is there.
        train: rows that the clients share out among themselves.
        test: rows that no client trains on; None: `data.test` is the share of `train` to set aside.
        origin: what the training and the test rows are called, in errors and in the corpus' description.
        folder: of the data; images and `data.partition.map` are looked for in it.
        label_names: the data set's own, where it has them and the run file does not.
        numbered: the data set says that its rows hold the numbers of labels.

    Raises:
        ConfigError: columns or the partition do not say enough.
        DataError: a row is malformed, or a client is left with too few examples; names file and line.
        PluginError: the partitioner is not known or does not keep its contract.
    """
    data, seed, kind = config.data, config.run.seed, examples_kind(config)
    partition = _needed_partition(data)
    if test is None:
        train, test = _set_aside(train, data.test, seed)
    for rows, name in zip((train, test), origin, strict=True):
        if not rows:
            raise DataError(
                f"{name}: there are no rows",
                code="data.no-rows",
                allowed="at least one example",
                remedy="check that this is the right file",
            )
    labelling = _labelling(kind, data, train, origin[0], label_names, numbered)
    train_examples = build_examples(kind, train, data, labelling, folder)
    test_examples = build_examples(kind, test, data, labelling, folder)
    groups = _groups(partition, data, train, train_examples, labelling, folder)
    ids = client_ids(config.clients)
    parts = deal(partition, groups[0], config.clients, seed)
    owners: dict[ClientId, str] = {}
    if partition.name == "natural-id":
        owners = {client: groups[1][int(groups[0][part[0]])] for client, part in zip(ids, parts, strict=True)}
    if data.client_test == "own":
        own = _own_rows(partition, data, test, folder)
        clients = {
            client: ClientData(train_examples.take(part), test_examples.take(own.get(owners[client], ())))
            for client, part in zip(ids, parts, strict=True)
        }
    else:
        clients = {
            client: hold_out(train_examples.take(part), data.client_test, seed=seed, client=client)
            for client, part in zip(ids, parts, strict=True)
        }
    names = labelling.names if labelling is not None else ()
    of_labels = f" of {len(names)} labels" if names else ""
    return Corpus(
        label_names=names,
        clients=clients,
        test=test_examples,
        description=(
            f"{origin[0]}: {len(train):,} examples{of_labels}, dealt to {config.clients} clients by "
            f"{_in_words(partition)}; tested on {origin[1]}: {len(test):,} examples"
        ),
        owners=owners,
    )


def _needed_partition(data: DataTable) -> PartitionTable:
    if data.partition is None:
        raise ConfigError(
            f"data.partition is needed by the {data.source} source",
            code="config.missing-key",
            allowed=", ".join(registry.names("partitioner")),
            remedy='add it to the run file, e.g. partition = { name = "iid" }',
        )
    return data.partition


def _set_aside(rows: Sequence[Row], share: object, seed: int) -> tuple[list[Row], list[Row]]:
    """The rows without and with that share, both in their first order."""
    assert isinstance(share, float)
    order = Draws(seed, "set aside").shuffled(range(len(rows)))
    count = min(max(1, round(share * len(rows))), max(len(rows) - 1, 0))
    return [rows[place] for place in sorted(order[count:])], [rows[place] for place in sorted(order[:count])]


def _labelling(
    kind: ExamplesKind,
    data: DataTable,
    rows: Sequence[Row],
    origin: str,
    label_names: Sequence[str] | None,
    numbered: bool,
) -> Labelling | None:
    if kind == "prompt":
        return None
    choices = ColumnReader("data.choices", data.choices) if data.choices is not None else None
    given = data.label_names if data.label_names is not None else label_names
    return find_labels(rows, ColumnReader("data.label", data.label), choices, given, origin, numbered=numbered)


def _groups(
    partition: PartitionTable,
    data: DataTable,
    rows: Sequence[Row],
    examples: Examples,
    labelling: Labelling | None,
    folder: Path | None,
) -> Groups:
    """What the partitioner goes by: the column that the run file names, else the label, else nothing."""
    if partition.partition_by is not None or partition.map is not None:
        return group_numbers(rows, _group_column(partition, data), _map(partition, folder))
    if labelling is not None:
        labels: npt.NDArray[np.int64] = getattr(examples, "labels")  # noqa: B009  # texts and images have them
        return labels, labelling.names
    if partition.name in _BY_LABEL:
        raise ConfigError(
            f'data.partition.name = "{partition.name}" goes by a column, and prompts have no label',
            code="config.missing-key",
            allowed=f"one of the columns {', '.join(rows[0].columns)}",
            remedy="name it in data.partition.partition_by, or deal by another partitioner, e.g. iid",
        )
    return np.zeros(len(rows), dtype=np.int64), ("",)


def _group_column(partition: PartitionTable, data: DataTable) -> ColumnReader:
    if partition.partition_by is None:
        return ColumnReader("data.label", data.label)
    return ColumnReader("data.partition.partition_by", partition.partition_by)


def _own_rows(
    partition: PartitionTable, data: DataTable, rows: Sequence[Row], folder: Path | None
) -> Mapping[str, list[int]]:
    """Places of the test rows by the name of whom they belong to; who is no client tests with the coordinator only."""
    numbers, names = group_numbers(rows, _group_column(partition, data), _map(partition, folder))
    places: dict[str, list[int]] = {}
    for place, number in enumerate(numbers.tolist()):
        places.setdefault(names[number], []).append(place)
    return places


def _map(partition: PartitionTable, folder: Path | None) -> dict[str, str] | None:
    """`data.partition.map`: value -> its group, whichever way round the file has it.

    Raises:
        DataError: the file is missing, or is not such an object, or a value is in two groups.
    """
    if partition.map is None:
        return None
    path = Path(partition.map) if folder is None else folder / partition.map
    try:
        table = json.loads("".join(line for _, line in DataFile(path).lines()))
    except json.JSONDecodeError as error:
        raise _no_map(path, f"line {error.lineno} is not JSON: {error.msg}") from error
    if not isinstance(table, dict) or not all(isinstance(value, str | list) for value in table.values()):
        raise _no_map(path, "it is no object of texts or lists")
    names: dict[str, str] = {}
    for key, value in table.items():
        for member, group in [(key, value)] if isinstance(value, str) else [(str(item), key) for item in value]:
            if names.setdefault(member, group) != group:
                raise _no_map(path, f'"{member}" belongs to "{names[member]}" and to "{group}"')
    return names


def _no_map(path: Path, fault: str) -> DataError:
    return DataError(
        f"{path}, named in data.partition.map: {fault}",
        code="data.map",
        allowed='{"group": ["value", ...], ...} or {"value": "group", ...}',
        remedy="correct the file",
    )


def _in_words(partition: PartitionTable) -> str:
    keys = {"partition_by": partition.partition_by, "map": partition.map}
    params = {key: value for key, value in keys.items() if value is not None} | partition.params
    return f"{partition.name}({', '.join(f'{key}={value}' for key, value in params.items())})"
