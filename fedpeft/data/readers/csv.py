"""CSV and TSV, as the standard library reads them: UTF-8, quoted fields may hold separators and line ends.

The first line names the columns, unless the run file does (`data.columns`). Blank lines are skipped.
"""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Iterator

from fedpeft.data.readers.contract import DataFile, Row
from fedpeft.errors import DataError

_SEPARATORS = (";", "\t", "|", ",")
"""That files have in practice: one of them in a header of one column is the separator, most likely."""

csv.field_size_limit(min(sys.maxsize, 2**31 - 1))  # a document in a field is no error


def read_csv(file: DataFile) -> Iterator[Row]:
    """The rows of a file separated by commas, or by `data.delimiter`. See `Reader`."""
    return _read(file, ",")


def read_tsv(file: DataFile) -> Iterator[Row]:
    """The rows of a file separated by tabs, or by `data.delimiter`. See `Reader`."""
    return _read(file, "\t")


def _read(file: DataFile, usual: str) -> Iterator[Row]:
    names = list(file.columns) if file.columns else None
    for line, record in _records(file, file.delimiter or usual):
        if names is None:
            names = _header(file, record, usual)
            continue
        if len(record) != len(names):
            raise DataError(
                f"{file.path}, line {line}: {len(record)} fields, but there are {len(names)} columns",
                code="data.csv-fields",
                allowed=f"{len(names)} fields: {', '.join(names)}",
                remedy="quote fields that hold the separator or line ends; another separator is data.delimiter",
            )
        yield Row(str(file.path), f"line {line}", dict(zip(names, record, strict=True)), file.fields)


def _records(file: DataFile, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """Each non-blank record with the line it starts on."""
    reader = csv.reader((text for _, text in file.lines()), delimiter=delimiter, strict=True)
    line = 1
    try:
        for record in reader:
            if record:
                yield line, record
            line = reader.line_num + 1
    except csv.Error as error:
        raise DataError(
            f"{file.path}, line {line}: not valid CSV: {error}",
            code="data.csv-syntax",
            allowed="separated fields, a quote inside a quoted field written twice",
            remedy="correct this line; look for a quote that is never closed",
        ) from error


def _header(file: DataFile, record: list[str], usual: str) -> list[str]:
    names = [name.strip() for name in record]
    others = [mark for mark in _SEPARATORS if mark != usual and mark in record[0]] if len(record) == 1 else []
    if others and file.delimiter is None:
        raise DataError(
            f"{file.path}, line 1: the header has one column, {record[0]!r}, and {others[0]!r} in it",
            code="data.delimiter",
            allowed="a comma in CSV, a tab in TSV, or what data.delimiter says",
            remedy=f"set data.delimiter = {json.dumps(others[0])}, or {json.dumps(usual)} if it is one column",
        )
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise DataError(
            f'{file.path}, line 1: the header has more than one column "{twice}"',
            code="data.no-column",
            allowed="a name of its own for each column",
            remedy="rename one of them; for a file without a header, name its columns in data.columns",
        )
    return names
