"""Parquet, read batch by batch with pyarrow: `pip install fedpeft[parquet]`."""

from __future__ import annotations

from collections.abc import Iterator

from fedpeft.data.readers.contract import DataFile, Row
from fedpeft.data.readers.opening import missing
from fedpeft.errors import DataError

_BATCH = 1024  # rows that are Python objects at a time


def read_parquet(file: DataFile) -> Iterator[Row]:
    """The rows of a Parquet file. See `Reader`.

    Raises:
        DataError: also where pyarrow is not installed.
    """
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise DataError(
            f"{file.path}: reading Parquet needs the package pyarrow, which is not installed",
            code="data.extra-missing",
            allowed="csv, tsv, json and jsonl files without it",
            remedy="pip install 'fedpeft[parquet]'",
        ) from None
    if not file.path.is_file():
        raise missing(file.path)
    number = 0
    try:
        with pyarrow.parquet.ParquetFile(file.path) as table:
            for batch in table.iter_batches(batch_size=_BATCH):
                for fields in batch.to_pylist():
                    number += 1
                    yield Row(str(file.path), f"row {number}", fields, file.fields)
    except (pyarrow.ArrowException, UnicodeDecodeError, OSError) as error:
        raise DataError(
            f"{file.path}: not a whole Parquet file, after row {number}: {error}",
            code="data.parquet",
            allowed="a Parquet file, not compressed once more",
            remedy="download or write it again",
        ) from error
