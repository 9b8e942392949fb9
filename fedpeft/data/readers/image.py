"""An image file is one row: its path. What is known about it stands in the path, e.g. `train/{label}/*.png`.

Nothing is opened here; the task decodes an image when it makes a batch of it.
"""

from __future__ import annotations

from collections.abc import Iterator

from fedpeft.data.readers.contract import DataFile, Row
from fedpeft.data.readers.opening import missing


def read_image(file: DataFile) -> Iterator[Row]:
    """One row with the field `image`. See `Reader`."""
    if not file.path.is_file():
        raise missing(file.path)
    yield Row(str(file.path), "the image", {"image": str(file.path)}, file.fields)
