"""Write a file whose name a person gave: whole, or not at all with one clear error."""

from __future__ import annotations

from pathlib import Path

from fedpeft.errors import DataError
from fedpeft.paths import write_atomically


def write_named(path: Path, content: bytes) -> None:
    """Replace the file by `content`.

    Raises:
        DataError: it cannot be written; names the file.
    """
    try:
        write_atomically(path, content)
    except OSError as error:
        raise DataError(
            f"{path} cannot be written: {error}",
            code="report.not-written",
            remedy="name a file in a folder that exists and has room",
        ) from error
