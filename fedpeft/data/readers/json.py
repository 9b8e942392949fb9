"""JSON: a document (`.json`) or a document a line (`.jsonl`), each row an object or a list.

    [{"text": "...", "label": "a"}, ...]       a list of rows
    {"train": [["...", "a"], ...], ...}        an object that holds the list: FILE.json#train

The keys after `#` lead to the list, outermost first: `FILE.json#data/train`. In a JSONL file they lead, in every line,
to a list of rows; so a line may hold a whole client. What else stands in the objects on the way are fields of each row.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from fedpeft.data.readers.contract import DataFile, Row
from fedpeft.errors import DataError, closest


def read_json(file: DataFile) -> Iterator[Row]:
    """The rows of one JSON document. See `Reader`."""
    text = "".join(line for _, line in file.lines())
    document = _parse(file, text, first_line=1)
    if not isinstance(document, list) and not file.inside:
        raise _no_list(file, "", document)
    yield from _unfold(file, document, "")


def read_jsonl(file: DataFile) -> Iterator[Row]:
    """The rows of a file with one JSON document a line; blank lines are skipped. See `Reader`."""
    for number, line in file.lines():
        if not line.strip():
            continue
        document, place = _parse(file, line.strip(), first_line=number), f"line {number}"
        if file.inside:
            yield from _unfold(file, document, place)
        else:
            yield Row(str(file.path), place, _fields(file, document, place), file.fields)


def _parse(file: DataFile, text: str, first_line: int) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise DataError(
            f"{file.path}, line {first_line + error.lineno - 1}, column {error.colno}: not valid JSON: {error.msg}",
            code="data.json-syntax",
            allowed="JSON",
            remedy="correct this line; a file with a document in every line is .jsonl",
        ) from error
    except (ValueError, RecursionError) as error:  # a number of thousands of digits; thousands of brackets
        raise DataError(
            f"{file.path}, in the document from line {first_line} on: {error}",
            code="data.json-syntax",
            allowed="JSON with numbers and nesting of ordinary size",
            remedy="correct the file",
        ) from error


def _unfold(file: DataFile, document: Any, place: str) -> Iterator[Row]:
    """Follow `file.inside` to the list and make a row of each of its items."""
    shared: dict[str, Any] = dict(file.fields)
    for key in file.inside:
        if not isinstance(document, Mapping) or key not in document:
            raise _no_list(file, place, document, key)
        shared |= {name: value for name, value in document.items() if name != key}
        document = document[key]
    if not isinstance(document, list):
        raise _no_list(file, place, document)
    of = f" of {'/'.join(file.inside)}" if file.inside else ""
    before = f"{place}, " if place else ""
    for number, item in enumerate(document, start=1):
        here = f"{before}item {number}{of}"
        yield Row(str(file.path), here, _fields(file, item, here), shared)


def _fields(file: DataFile, item: Any, place: str) -> Mapping[str, Any]:
    if isinstance(item, Mapping):
        return item
    if isinstance(item, list):
        return {str(position): value for position, value in enumerate(item)}
    raise DataError(
        f"{file.path}, {place}: a row is {_kind(item)}",
        code="data.json-row",
        allowed="an object, or a list of fields",
        remedy="make it an object with a key for each column",
    )


def _no_list(file: DataFile, place: str, found: Any, key: str | None = None) -> DataError:
    lists = [name for name, value in found.items() if isinstance(value, list)] if isinstance(found, Mapping) else []
    where = f"{file.path}, {place}" if place else str(file.path)
    if key is not None and isinstance(found, Mapping):
        what, near = f'there is no key "{key}"', closest(key, found)
    else:
        what, near = f"{_kind(found)} stands where the list of rows should be", None
    likely = "train" if "train" in lists else lists[0] if lists else ""
    example = f"name the list, e.g. {file.path.name}#{likely}," if lists else "name the keys that lead to it after a #"
    return DataError(
        f"{where}: {what}",
        code="data.json-list",
        allowed=", ".join(lists[:20]) or "a list of rows, or an object that holds one",
        remedy=near or f"{example} in the run file",
    )


def _kind(value: Any) -> str:
    names = {
        dict: "an object",
        list: "a list",
        str: "a text",
        bool: "true or false",
        int: "a number",
        float: "a number",
    }
    return names.get(type(value), "null")
