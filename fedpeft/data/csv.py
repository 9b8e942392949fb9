"""The `csv` source: two CSV files with a text and a label column, the first one dealt to the clients.

Read with the standard library: UTF-8 (a byte order mark is fine), first line names the columns, quoted fields may hold
commas and line ends. Blank lines are skipped; anything else that does not fit is an error with file and line.
"""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fedpeft.config import RunConfig
from fedpeft.data.corpus import Corpus, TextExamples, client_ids
from fedpeft.data.holdout import hold_out
from fedpeft.data.labels import plain_names
from fedpeft.data.partition.deal import deal
from fedpeft.errors import ConfigError, DataError, closest


@dataclass(frozen=True, slots=True)
class Row:
    """One example as it stands in the file."""

    line: int  # where it starts, counted from 1
    text: str
    label: str


def csv_source(config: RunConfig) -> Corpus:
    """Read `data.train` and `data.test`, deal the first to the run's clients.

    Labels are numbered in the sorted order of their raw names, so the order of rows does not matter for them.

    Raises:
        ConfigError: `data.train`, `data.test` or `data.partition` is missing.
        DataError: a file is missing or malformed, a label of the test file is not in the training file, or a client
            is left with no examples.
        PluginError: the partitioner is not known or does not keep its contract.
    """
    data = config.data
    if data.train is None or data.test is None or data.partition is None:
        raise ConfigError(
            "data.train, data.test and data.partition are needed by the csv source",
            code="config.missing-key",
            remedy="add them to the run file",
        )
    folder = _folder(config)
    train_path, test_path = folder / data.train, folder / data.test
    train_rows = read_rows(train_path, text=data.text, label=data.label)
    test_rows = read_rows(test_path, text=data.text, label=data.label)
    labels = sorted({row.label for row in train_rows})
    number = {label: index for index, label in enumerate(labels)}
    _check_known(test_rows, test_path, train_path, labels)
    names = plain_names(labels, origin=str(train_path))
    train, test = _examples(train_rows, number), _examples(test_rows, number)
    parts = deal(data.partition, train.labels, config.clients, config.run.seed)
    clients = {
        client: hold_out(train.take(part), data.client_test, seed=config.run.seed, client=client)
        for client, part in zip(client_ids(config.clients), parts, strict=True)
    }
    params = ", ".join(f"{key}={value}" for key, value in data.partition.params.items())
    return Corpus(
        label_names=names,
        clients=clients,
        test=test,
        description=(
            f"{train_path.name}: {len(train):,} examples of {len(names)} labels, dealt to {config.clients} clients by "
            f"{data.partition.name}({params}); tested on {test_path.name}: {len(test):,} examples"
        ),
    )


def read_rows(path: Path, *, text: str, label: str) -> list[Row]:
    """The examples of one CSV file, stripped of surrounding white space.

    Args:
        path: the file.
        text: name of the column that holds the text.
        label: name of the column that holds the label.

    Raises:
        DataError: the file is missing, unreadable, not UTF-8 or not CSV; a column is missing; a text or a label is
            empty; there are no rows. Names file and line.
    """
    records = _records(path)
    _, header = next(records, (1, []))
    places = [_column(path, [name.strip() for name in header], name) for name in (text, label)]
    rows = []
    for line, record in records:
        if len(record) != len(header):
            raise DataError(
                f"{path}, line {line}: {len(record)} fields, but the header has {len(header)}",
                code="data.csv-fields",
                allowed=f"{len(header)} fields: {', '.join(header)}",
                remedy="quote fields that hold commas or line ends",
            )
        values = [record[place].strip() for place in places]
        for name, value in zip((text, label), values, strict=True):
            if not value:
                raise DataError(
                    f'{path}, line {line}: column "{name}" is empty',
                    code="data.empty-field",
                    allowed="a text and a label in every row",
                    remedy="fill it in, or remove the row",
                )
        rows.append(Row(line, *values))
    if not rows:
        raise DataError(
            f"{path}: there are no rows below the header",
            code="data.no-rows",
            allowed="at least one example",
            remedy="check that this is the right file",
        )
    return rows


def _folder(config: RunConfig) -> Path:
    named = config.data.folder or os.environ.get("FEDPEFT_DATA")
    if not named:
        raise DataError(
            f"there is no folder to look for {config.data.train} in: neither data.folder nor the environment variable "
            "FEDPEFT_DATA is set",
            code="data.no-folder",
            allowed="the folder that holds the CSV files",
            remedy="export FEDPEFT_DATA=/path/to/data, or set data.folder in the run file",
        )
    return Path(named).expanduser().resolve()


def _records(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Each non-blank record with the line it starts on."""
    reader = csv.reader(io.StringIO(_read(path), newline=""), strict=True)
    line = 1
    try:
        for record in reader:
            if record:
                yield line, record
            line = reader.line_num + 1
    except csv.Error as error:
        raise DataError(
            f"{path}, line {line}: not valid CSV: {error}",
            code="data.csv-syntax",
            allowed="comma-separated fields, a quote inside a quoted field written twice",
            remedy="correct this line; look for a quote that is never closed",
        ) from error


def _read(path: Path) -> str:
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        found = sorted(item.name for item in path.parent.glob("*.csv"))
        raise DataError(
            f"data file {path.name} does not exist; looked in {path.parent}",
            code="data.no-file",
            allowed=", ".join(found) if found else "a folder that holds the CSV files named in the run file",
            remedy="set data.folder, or export FEDPEFT_DATA=/path/to/data, to the folder that holds it",
        ) from None
    except OSError as error:
        raise DataError(
            f"data file {path} cannot be read: {error.strerror}",
            code="data.no-file",
            allowed="a readable CSV file",
            remedy="check the path and its permissions",
        ) from error
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise DataError(
            f"{path}, line {line}: byte 0x{content[error.start]:02x} is not UTF-8",
            code="data.encoding",
            allowed="UTF-8, with or without a byte order mark",
            remedy="save the file as UTF-8",
        ) from error


def _column(path: Path, header: Sequence[str], name: str) -> int:
    if header.count(name) == 1:
        return header.index(name)
    count = "has no" if name not in header else "has more than one"
    raise DataError(
        f'{path}, line 1: the header {count} column "{name}"',
        code="data.no-column",
        allowed=", ".join(header) or "a first line that names the columns",
        remedy=closest(name, header) or "set data.text and data.label to the names of the columns",
    )


def _check_known(rows: Sequence[Row], path: Path, train_path: Path, labels: Sequence[str]) -> None:
    known = set(labels)
    for row in rows:
        if row.label not in known:
            raise DataError(
                f'{path}, line {row.line}: label "{row.label}" is in no row of {train_path}',
                code="data.unknown-label",
                allowed=", ".join(labels[:20]) + (", ..." if len(labels) > 20 else ""),
                remedy=closest(row.label, labels) or "train on this label too, or leave it out of the test file",
            )


def _examples(rows: Sequence[Row], number: dict[str, int]) -> TextExamples:
    labels = np.array([number[row.label] for row in rows], dtype=np.int64)
    return TextExamples(tuple(row.text for row in rows), labels)
