"""What every reader promises, and what it is given: a file to read, rows to make of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, Protocol

from fedpeft.data.readers.opening import decoded_lines, opened


@dataclass(frozen=True, slots=True)
class Row:
    """One row of a file: its fields by name, and where it stands. Fields of a list are named "0", "1", ..."""

    file: str
    place: str  # in the file: "line 3", or "line 3, item 7 of train"
    fields: Mapping[str, Any]
    shared: Mapping[str, Any] = field(default_factory=dict)  # fields that it has in common with its neighbours

    @property
    def where(self) -> str:
        """File and place, as errors name them."""
        return f"{self.file}, {self.place}"

    @property
    def columns(self) -> list[str]:
        """The names of all its fields."""
        return [*self.fields, *(name for name in self.shared if name not in self.fields)]

    def get(self, name: str) -> Any:
        """The field of that name; None if there is none."""
        return self.fields[name] if name in self.fields else self.shared.get(name)


@dataclass(frozen=True, slots=True)
class DataFile:
    """A file to read, compressed or not."""

    path: Path
    inside: tuple[str, ...] = ()  # JSON: keys that lead to the list of rows; what stood after "#" in the run file
    columns: tuple[str, ...] | None = None  # CSV: names of the columns of a file without a header line
    fields: Mapping[str, str] = field(default_factory=dict)  # for every row: what "{client}" matched in the path
    delimiter: str | None = None  # CSV: what is between two fields; None: as the format has it

    @contextmanager
    def open(self) -> Iterator[BinaryIO]:
        """The decompressed bytes.

        Raises:
            DataError: the file is missing, cannot be read, or is not what its suffix says.
        """
        with opened(self.path) as stream:
            yield stream

    def lines(self) -> Iterator[tuple[int, str]]:
        """Each line with its number, counted from 1; line ends are kept, a byte order mark is not.

        Raises:
            DataError: as `open`; or a line is not UTF-8.
        """
        with self.open() as stream:
            yield from decoded_lines(self.path, stream)


class Reader(Protocol):
    """The contract of a reader (registry kind `reader`): a function from a file to its rows, one by one, in order.

    A reader of one's own is named as `data.format = "path/file.py:verses"`:

    >>> import tempfile
    >>> def verses(file):
    ...     for number, line in file.lines():
    ...         title, _, text = line.strip().partition(": ")
    ...         yield Row(str(file.path), f"line {number}", {"title": title, "text": text}, file.fields)
    >>> path = Path(tempfile.mkdtemp()) / "verses.txt"
    >>> _ = path.write_text("sea: blue and wide\\n")
    >>> [row.get("text") for row in verses(DataFile(path))]
    ['blue and wide']
    """

    def __call__(self, file: DataFile) -> Iterator[Row]:
        """The rows of a file.

        Raises:
            DataError: the file is missing or malformed; names file and line.
        """
