"""Labels as files hold them -> numbers: names, whole numbers that stand for names, or places in a list of choices.

The names are the run file's `data.label_names`; else those of all choices, where rows have them; else the labels of
the training rows, sorted, so that the order of rows does not matter.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from fedpeft.data.columns import ColumnReader
from fedpeft.data.labels import in_order, plain_names
from fedpeft.data.readers.contract import Row
from fedpeft.errors import DataError, closest

Choices = tuple[tuple[int, ...], ...]


@dataclass(frozen=True, slots=True)
class Labelling:
    """The labels of a corpus, and how rows name them."""

    names: tuple[str, ...]  # plain words, in the order of the numbers
    number: Mapping[str, int]  # label as the file has it -> number
    label: ColumnReader
    choices: ColumnReader | None
    numbered: bool  # a whole number in a row is a label's number, whatever the names are
    origin: str  # where the names come from, for errors

    def read(self, rows: Sequence[Row]) -> tuple[npt.NDArray[np.int64], Choices | None]:
        """The label of each row, shape (n,), and what it may be answered with.

        Raises:
            DataError: a label is missing, or is none of the names; or it is not one of its row's choices.
        """
        labels = np.empty(len(rows), dtype=np.int64)
        choices: list[tuple[int, ...]] = []
        known: dict[tuple[str, ...], tuple[int, ...]] = {}  # rows of one client share their choices
        for place, row in enumerate(rows):
            raw, options = self.label.value(row), _options(self.choices, row)
            name = _name(raw, options, row)
            labels[place] = self._number(name, row)
            if options:
                if options not in known:
                    known[options] = tuple(self._number(option, row) for option in options)
                choices.append(known[options])
                if name not in options:
                    raise _unknown(name, row, options, "is not one of the row's choices")
        return labels, tuple(choices) if self.choices is not None else None

    def _number(self, name: str, row: Row) -> int:
        if self.numbered and (number := _whole(name)) is not None:
            if 0 <= number < len(self.names):
                return number
            allowed = [f"{place} ({given})" for given, place in self.number.items()]
            raise _unknown(name, row, allowed, f"is not in {self.origin}")
        if name not in self.number:
            raise _unknown(name, row, tuple(self.number), f"is not in {self.origin}")
        return self.number[name]


def find_labels(
    rows: Sequence[Row],
    label: ColumnReader,
    choices: ColumnReader | None,
    given: Sequence[str] | None,
    origin: str,
    *,
    numbered: bool = False,
) -> Labelling:
    """Number the labels.

    Rows may have the names of given labels, or their numbers from 0 on. Names may be numbers themselves, so it is
    decided once: where every training row has one of the names, rows have names; else a whole number is a label's.

    Args:
        rows: of the training examples; they decide which labels there are.
        label: column of the label.
        choices: column of the labels that a row may be answered with.
        given: names of labels 0, 1, ...; None: those of the rows.
        origin: of the rows, for errors.
        numbered: the data set itself says that rows hold numbers.

    Raises:
        DataError: a label is missing or empty, or two names read the same in plain words.
    """
    if given is not None:
        raw, origin = list(given), "data.label_names"
        if choices is None and not numbered:
            known = set(raw)
            numbered = not all(_name(label.value(row), (), row) in known for row in rows)
    elif choices is not None:
        raw = in_order(option for row in rows for option in _options(choices, row))
        origin = f"the choices of {origin}"
    else:
        raw = in_order(_name(label.value(row), (), row) for row in rows)
        origin = f"any row of {origin}"
    names = plain_names(raw, origin=origin)
    number = {name: index for index, name in enumerate(raw)}
    return Labelling(names, number, label, choices, numbered and choices is None, origin)


def _whole(name: str) -> int | None:
    try:
        return int(name)
    except ValueError:
        return None


def _options(choices: ColumnReader | None, row: Row) -> tuple[str, ...]:
    if choices is None:
        return ()
    value = choices.value(row)
    if isinstance(value, list) and value and all(isinstance(item, str | int) for item in value):
        return tuple(str(item).strip() for item in value)
    raise DataError(
        f'{row.where}: column "{choices.column}" is no list of labels: {str(value)[:60]}',
        code="data.choices",
        allowed='a list such as ["yes", "no"], not empty',
        remedy="set data.choices to another column, or leave it out",
    )


def _name(raw: Any, options: Sequence[str], row: Row) -> str:
    """The label's name as the file has it; a whole number beside choices is a place among them."""
    if options and isinstance(raw, int) and not isinstance(raw, bool):
        if 0 <= raw < len(options):
            return options[raw]
        raise DataError(
            f"{row.where}: label {raw} is no place in the list of {len(options)} choices",
            code="data.choices",
            allowed=f"0 to {len(options) - 1}",
            remedy="correct the row",
        )
    if isinstance(raw, list | dict | bytes | float):
        raise DataError(
            f"{row.where}: a label is a {type(raw).__name__}: {str(raw)[:60]}",
            code="data.column-type",
            allowed="a text or a whole number",
            remedy="set data.label to another column",
        )
    return ("true" if raw else "false") if isinstance(raw, bool) else str(raw).strip()


def _unknown(name: str, row: Row, known: Sequence[str], what: str) -> DataError:
    return DataError(
        f'{row.where}: label "{name}" {what}',
        code="data.unknown-label",
        allowed=", ".join(known[:20]) + (", ..." if len(known) > 20 else ""),
        remedy=closest(name, known) or "correct the label; what is only in the test file cannot be learnt",
    )
