"""Rows -> the examples that a task reads: which columns they need is said once, here."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fedpeft.config import DataTable
from fedpeft.data.columns import ColumnReader
from fedpeft.data.examples import Examples, ExamplesKind, ImageExamples, Message, PromptExamples, TextExamples
from fedpeft.data.images import image_of
from fedpeft.data.labelling import Labelling
from fedpeft.data.labels import in_order
from fedpeft.data.readers.contract import Row
from fedpeft.errors import ConfigError, DataError

_ROLES = {"human": "user", "gpt": "assistant", "bot": "assistant"}  # as conversations scraped from chat pages have them


def column(data: DataTable, key: str) -> ColumnReader:
    """The reader of a column of `[data]` that is set."""
    return ColumnReader(f"data.{key}", getattr(data, key))


def build_examples(
    kind: ExamplesKind, rows: Sequence[Row], data: DataTable, labelling: Labelling | None, folder: Path | None
) -> Examples:
    """The examples of one split.

    Args:
        kind: what the task reads.
        rows: n of them.
        data: says which columns.
        labelling: of texts and images.
        folder: against which an image's path is taken.

    Raises:
        DataError: a row lacks a column, or holds what it cannot; names file and line.
        ConfigError: images with `data.choices`.
    """
    if kind == "prompt":
        chat = _chat_reader(data)
        return PromptExamples(tuple(chat(row) for row in rows))
    assert labelling is not None
    labels, choices = labelling.read(rows)
    if kind == "image":
        if data.choices is not None:
            raise ConfigError(
                f"data.choices = {data.choices!r} is not used by a task on images, which chooses among all labels",
                code="data.choices",
                allowed="it beside texts to classify",
                remedy="remove data.choices",
            )
        picture = column(data, "image")
        return ImageExamples(tuple(image_of(picture.value(row), row, folder) for row in rows), labels)
    text = column(data, "text")
    return TextExamples(tuple(text.text(row).strip() for row in rows), labels, choices)


def _chat_reader(data: DataTable) -> Callable[[Row], tuple[Message, ...]]:
    if data.messages is not None:
        messages = column(data, "messages")
        return lambda row: _messages(messages.value(row), row)
    if data.prompt is not None:
        prompt, response = column(data, "prompt"), column(data, "response")
        return lambda row: (
            {"role": "user", "content": prompt.text(row)},
            {"role": "assistant", "content": response.text(row)},
        )
    text = column(data, "text")
    return lambda row: ({"role": "assistant", "content": text.text(row)},)


def _messages(value: Any, row: Row) -> tuple[Message, ...]:
    """A chat as its file holds it, {role, content} or {from, value}, up to the last answer of the assistant."""
    chat: list[Message] = []
    for item in value if isinstance(value, list) else ():
        role = item.get("role", item.get("from")) if isinstance(item, Mapping) else None
        content = item.get("content", item.get("value")) if isinstance(item, Mapping) else None
        if not isinstance(role, str) or not isinstance(content, str):
            raise _no_chat(row, f"has a message that is {str(item)[:60]}")
        chat.append({"role": _ROLES.get(role, role), "content": content})
    while chat and chat[-1]["role"] != "assistant":
        chat.pop()
    if not chat:
        raise _no_chat(row, "holds no answer of the assistant")
    return tuple(chat)


def _no_chat(row: Row, fault: str) -> DataError:
    return DataError(
        f"{row.where}: the chat {fault}",
        code="data.chat",
        allowed='a list of {"role": ..., "content": ...}, one of them with the role "assistant"',
        remedy="correct the row, or set data.messages to another column",
    )


def group_numbers(
    rows: Sequence[Row], reader: ColumnReader, names: Mapping[str, str] | None
) -> tuple[npt.NDArray[np.int64], tuple[str, ...]]:
    """What a partitioner goes by where it is not the label: the values of a column as numbers, shape (n,), and names.

    Numbers follow the sorted order of the values; whole numbers sort as numbers.

    Args:
        rows: n of them.
        reader: of the column.
        names: translates the values (`data.partition.map`).

    Raises:
        DataError: a row lacks the column, or has a value that `names` lacks.
    """
    values = [reader.text(row).strip() for row in rows]
    if names is not None:
        for row, value in zip(rows, values, strict=True):
            if value not in names:
                raise DataError(
                    f'{row.where}: data.partition.map does not say whom "{value}" belongs to',
                    code="data.map",
                    allowed=", ".join([*names][:20]) + (", ..." if len(names) > 20 else ""),
                    remedy=f'add "{value}" to the file, or remove such rows',
                )
        values = [names[value] for value in values]
    order = in_order(values)
    number = {value: index for index, value in enumerate(order)}
    return np.array([number[value] for value in values], dtype=np.int64), tuple(order)
