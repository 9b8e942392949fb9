"""`[data]`: the examples, which columns they are in, and how they are dealt."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from fedpeft.config.table import Natural, PluginTable, Table
from fedpeft.explain import Contradiction

FROM_FILES = ("files", "csv")
DEALT = (*FROM_FILES, "hub")  # sources whose rows are dealt to the clients

_OF_ROWS = (
    *("format", "columns", "delimiter", "dataset", "subset", "revision", "text", "label", "prompt", "response"),
    *("messages", "image", "choices", "label_names"),
)
"""Keys that say how to read rows."""

Column = str | int
"""A column's name, its position in rows that are lists, or a text with columns in braces: "{question} {0}"."""
Share = Annotated[float, Field(gt=0, lt=1)]


class PartitionTable(PluginTable):
    """`data.partition`: a partitioner, what it goes by, and its own parameters."""

    partition_by: Column | None = None  # column that it goes by; default: the label
    map: str | None = None  # JSON file in the folder that translates it: {"bank": ["pay", ...]} or {"pay": "bank", ...}


class DataTable(Table):
    """`[data]`: where the examples come from and how they are dealt to the clients."""

    source: str = "assistant"  # assistant (generated) | files | csv (files, whatever their suffix) | hub
    folder: str | None = None  # of the files; default: the environment variable FEDPEFT_DATA
    train: str | list[str] | None = None  # files: names relative to the folder, see simulations/DATA.md; hub: a split
    test: str | list[str] | Share | None = None  # the same, or the share of the training examples to set aside first
    format: str | None = None  # files: csv | tsv | json | jsonl | parquet | image; default: by each file's suffix
    columns: list[str] | None = None  # files: names of a CSV file's columns, where its first line is not a header
    delimiter: str | None = Field(None, pattern=r'^[^"\r\n]$', description="one character, not a quote")
    """files: what is between the fields of a line, e.g. ";"; default: a comma in CSV, a tab in TSV."""
    dataset: str | None = None  # hub: id of a data set, or a folder
    subset: str | None = None  # hub: configuration of the data set, e.g. "en"
    revision: str | None = None  # hub: commit, tag or branch
    text: Column = "text"  # of a text to classify, or to continue
    label: Column = "label"
    prompt: Column | None = None  # what the assistant is asked; with `response`
    response: Column | None = None  # what it should answer
    messages: Column | None = None  # a chat: a list of {role, content}; instead of prompt and response
    image: Column = "image"  # a path relative to the folder, or the bytes of an image file
    choices: Column | None = None  # labels that the row's text may be given, a list; a numeric label is a place in it
    label_names: list[str] | None = None  # of labels 0, 1, ...; default: the labels as they stand in the column, sorted
    partition: PartitionTable | None = None  # e.g. { name = "dirichlet", alpha = 0.5 }
    client_test: Annotated[float, Field(ge=0, lt=1)] | Literal["own"] = 0.1
    """Share of a client's examples kept for its own evaluation; "own": its rows of `test` (partition natural-id)."""
    client_examples: Natural = 0  # of each client at most so many are trained on, and so many tested on; 0: all

    @model_validator(mode="after")
    def _consistent(self) -> DataTable:
        if self.source == "assistant":
            for key in ("train", "test", "partition", "folder"):
                if getattr(self, key) is not None:
                    raise Contradiction(
                        f'{key} contradicts data.source = "assistant", which generates its data',
                        allowed="data.client_test beside it",
                        remedy=f'remove data.{key}, or set data.source = "files"',
                    )
            for key in _OF_ROWS:
                if getattr(self, key) != type(self).model_fields[key].default:
                    raise Contradiction(
                        f'{key} = {getattr(self, key)!r} is not used by data.source = "assistant", which generates '
                        "its data",
                        allowed="data.client_test, data.client_examples",
                        remedy=f'remove data.{key}, or set data.source = "files" or "hub"',
                    )
        twice = next((name for name in self.columns or () if (self.columns or []).count(name) > 1), None)
        if twice is not None:
            raise Contradiction(
                f'columns has "{twice}" more than once',
                allowed="a name of its own for each column",
                remedy="rename one of them",
            )
        if self.source in DEALT:
            self._check_dealt()
        if self.client_test == "own" and (self.partition is None or self.partition.name != "natural-id"):
            raise Contradiction(
                'client_test = "own" needs test examples that belong to clients',
                allowed='a share, or "own" with data.partition.name = "natural-id"',
                remedy="set data.client_test to a share, e.g. 0.1",
            )
        if self.client_test == "own" and isinstance(self.test, float):
            raise Contradiction(
                f'client_test = "own" contradicts data.test = {self.test}: its rows come from a test file',
                allowed="a test file with rows of every client, or a share as data.client_test",
                remedy="name a file in data.test, or set data.client_test to a share, e.g. 0.1",
            )
        return self

    def _check_dealt(self) -> None:
        needed = ("train", "test", "partition", *(("dataset",) if self.source == "hub" else ()))
        for key in needed:
            if getattr(self, key) is None:
                raise Contradiction(
                    f'{key} is missing, and data.source = "{self.source}" needs it',
                    allowed=", ".join(f"data.{name}" for name in needed[:-1]) + f" and data.{needed[-1]}",
                    remedy=f"add data.{key}",
                )
        if (self.prompt is None) != (self.response is None):
            there, missing = ("prompt", "response") if self.response is None else ("response", "prompt")
            raise Contradiction(
                f"{there} is set and data.{missing} is not",
                allowed="both, or data.messages, or data.text for texts to continue",
                remedy=f"add data.{missing}",
            )
        if self.messages is not None and self.prompt is not None:
            raise Contradiction(
                "messages and data.prompt both say where the chats are",
                allowed="data.messages, or data.prompt and data.response",
                remedy="remove one of them",
            )
