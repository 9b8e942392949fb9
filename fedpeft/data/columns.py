"""Which field of a row a column of the run file means, and one clear error where a row does not have it.

A column is a name ("text"), a position in rows that are lists (0), or a text with columns in braces
("{question} {0}"; a brace of its own is written twice).
"""

from __future__ import annotations

import string
from collections.abc import Iterable
from typing import Any

from fedpeft.data.readers.contract import Row
from fedpeft.errors import ConfigError, DataError, closest


class ColumnReader:
    """Reads one column of the run file from rows.

    Args:
        key: the run file's key, e.g. `data.text`, for errors.
        column: as it stands there.

    Raises:
        ConfigError: braces that do not hold the name of a column.
    """

    def __init__(self, key: str, column: str | int) -> None:
        self.key = key
        self.column = str(column)
        self._pieces = _pieces(key, self.column) if "{" in self.column else None

    def value(self, row: Row) -> Any:
        """The field as the file holds it; of a text with braces, the text filled in.

        Raises:
            DataError: the row has no such field, or it is empty; or one within braces is a list or a table.
        """
        if self._pieces is None:
            return self._field(row, self.column)
        return "".join(
            before + (self._plain(row, name, self._field(row, name)) if name is not None else "")
            for before, name in self._pieces
        )

    def text(self, row: Row) -> str:
        """The field as a text; a number is written out.

        Raises:
            DataError: as `value`; or it is a list or a table.
        """
        return self._plain(row, self.column, self.value(row))

    def _plain(self, row: Row, name: str, value: Any) -> str:
        if isinstance(value, list | dict | bytes):
            raise DataError(
                f'{row.where}: column "{name}" is a {type(value).__name__}',
                code="data.column-type",
                allowed="a text or a number",
                remedy=f"set {self.key} to another column",
            )
        return _words(value)

    def _field(self, row: Row, name: str) -> Any:
        value = row.get(name)
        if value is None and name not in row.columns:
            raise DataError(
                f'{row.where}: there is no column "{name}"',
                code="data.no-column",
                allowed=", ".join(row.columns) or "nothing: the row is empty",
                remedy=closest(name, row.columns) or f"set {self.key} to the name of a column",
            )
        if value is None or (isinstance(value, str) and not value.strip()):
            raise DataError(
                f'{row.where}: column "{name}" is empty',
                code="data.empty-field",
                allowed=f"a value for {self.key} in every row",
                remedy="fill it in, or remove the row",
            )
        return value


def _pieces(key: str, template: str) -> list[tuple[str, str | None]]:
    """The text before each column, and the column's name; None after the last."""
    try:
        parsed: Iterable[tuple[str, str | None, str | None, str | None]] = list(string.Formatter().parse(template))
    except ValueError as error:
        raise _malformed(key, template, str(error)) from None
    pieces = []
    for before, name, form, conversion in parsed:
        if name is not None and (not name or form or conversion):
            raise _malformed(key, template, "braces that do not hold the name of a column")
        pieces.append((before, name))
    return pieces


def _malformed(key: str, template: str, fault: str) -> ConfigError:
    return ConfigError(
        f'{key} = "{template}": {fault}',
        code="config.column",
        allowed='a column, or a text like "{question} {context}"',
        remedy="correct the braces; write {{ and }} for braces that stay",
    )


def _words(value: Any) -> str:
    return ("true" if value else "false") if isinstance(value, bool) else str(value)
