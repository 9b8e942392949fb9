"""Data files as bytes and as lines: plain, .gz, .xz or .zst, and one clear error for each that cannot be read."""

from __future__ import annotations

import gzip
import io
import lzma
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, cast

import zstandard

from fedpeft.errors import DataError

COMPRESSED = (".gz", ".xz", ".zst")


@contextmanager
def opened(path: Path) -> Iterator[BinaryIO]:
    """The decompressed bytes of a file, as a stream.

    Raises:
        DataError: the file is missing, cannot be read, or is not compressed as its suffix says.
    """
    try:
        with _open(path) as stream:
            yield stream
    except FileNotFoundError:
        raise missing(path) from None
    except (gzip.BadGzipFile, lzma.LZMAError, zstandard.ZstdError, zlib.error, EOFError) as error:
        raise DataError(
            f"{path}: not a whole {path.suffix} file: {error}",
            code="data.compression",
            allowed=f"a file compressed as {path.suffix}, all of it",
            remedy="download or compress it again",
        ) from error
    except OSError as error:
        raise DataError(
            f"data file {path} cannot be read: {error.strerror}",
            code="data.no-file",
            allowed="a readable file",
            remedy="check the path and its permissions",
        ) from error


def decoded_lines(path: Path, stream: BinaryIO) -> Iterator[tuple[int, str]]:
    """Each line with its number, counted from 1; line ends are kept, a byte order mark is not.

    Raises:
        DataError: a line is not UTF-8.
    """
    for number, line in enumerate(stream, start=1):
        try:
            yield number, line.decode("utf-8-sig" if number == 1 else "utf-8")
        except UnicodeDecodeError as error:
            raise DataError(
                f"{path}, line {number}: byte 0x{line[error.start]:02x} is not UTF-8",
                code="data.encoding",
                allowed="UTF-8, with or without a byte order mark",
                remedy="save the file as UTF-8",
            ) from error


def missing(path: Path) -> DataError:
    """The error of a file that is not there; names its neighbours, or the folder that is not there either."""
    if not path.parent.is_dir():
        return no_folder(path.parent, f"data file {path.name} does not exist")
    near = sorted(item.name for item in path.parent.iterdir())
    return DataError(
        f"data file {path.name} does not exist; looked in {path.parent}",
        code="data.no-file",
        allowed=", ".join(near[:20]) + (", ..." if len(near) > 20 else "") or "a folder that holds the data files",
        remedy="set data.folder, or export FEDPEFT_DATA=/path/to/data, to the folder that holds it",
    )


def no_folder(folder: Path, found: str) -> DataError:
    """The error of a folder that is not there; names the first that is missing on the way to it."""
    lost = next((one for one in reversed(folder.parents) if not one.is_dir()), folder)
    return DataError(
        f"{found}: there is no folder {lost}" + (f", and so no {folder}" if lost != folder else ""),
        code="data.no-file",
        allowed="the folder that holds the data files",
        remedy="set data.folder in the run file, or export FEDPEFT_DATA=/path/to/data, to a folder that is there",
    )


def _open(path: Path) -> BinaryIO:
    match path.suffix.lower():
        case ".gz":
            return cast(BinaryIO, gzip.open(path, "rb"))
        case ".xz":
            return cast(BinaryIO, lzma.open(path, "rb"))
        case ".zst":
            return io.BytesIO(_decompressed(path.read_bytes()))
    return path.open("rb")


def _decompressed(content: bytes) -> bytes:
    """All Zstandard frames of a file, whole: the package's own reader takes a file that was cut short for its end."""
    pieces = []
    while content:
        frame = zstandard.ZstdDecompressor().decompressobj()
        pieces.append(frame.decompress(content))
        if not frame.eof:
            raise EOFError("it ends before the end of the data")
        content = frame.unused_data
    return b"".join(pieces)
