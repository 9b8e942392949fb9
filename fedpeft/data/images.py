"""An image as a row holds it -> a path, or its pixels."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from fedpeft.data.examples import Image
from fedpeft.data.readers.contract import Row
from fedpeft.errors import DataError


def image_of(value: Any, row: Row, folder: Path | None) -> Image:
    """A path as an absolute path; bytes decoded, uint8 of shape (height, width, 3).

    Args:
        value: a path relative to `folder`, the bytes of an image file, or {"bytes", "path"} as Hugging Face's Parquet
            files hold it.
        row: where it stands.
        folder: of the data.

    Raises:
        DataError: there is no such file, or the bytes are no image.
    """
    if isinstance(value, Mapping):
        value = value.get("bytes") or value.get("path")
    if isinstance(value, str):
        path = Path(value) if folder is None else folder / value
        if path.is_file():
            return str(path)
        raise DataError(
            f"{row.where}: there is no image {path}",
            code="data.no-file",
            allowed="a path relative to data.folder",
            remedy="correct the path, or set data.folder to the folder that it starts from",
        )
    if isinstance(value, bytes):
        return _decoded(value, row)
    raise DataError(
        f"{row.where}: an image is a {type(value).__name__}",
        code="data.column-type",
        allowed="a path, or the bytes of an image file",
        remedy="set data.image to another column",
    )


def in_rgb(image: Any) -> Any:
    """Pillow's image with three channels of 8 bits.

    Raises:
        ValueError: its pixels are more than 8 bits wide. Pillow would make everything above 255 white.
    """
    if image.mode[0] in "IF":
        raise ValueError(f"its pixels are of mode {image.mode}, more than 8 bits wide; convert it to 8 bits first")
    return image.convert("RGB")


def _decoded(content: bytes, row: Row) -> Image:
    try:
        import PIL.Image
    except ImportError:
        raise DataError(
            f"{row.where}: an image within a data file needs the package Pillow, which is not installed",
            code="data.extra-missing",
            allowed="paths of image files without it",
            remedy="pip install 'fedpeft[images]'",
        ) from None
    try:
        with PIL.Image.open(io.BytesIO(content)) as image:
            return np.asarray(in_rgb(image), dtype=np.uint8)
    except (OSError, SyntaxError, ValueError, PIL.Image.DecompressionBombError) as error:
        raise DataError(
            f"{row.where}: the bytes are no image that can be read: {error}",
            code="data.image",
            allowed="the bytes of a PNG, JPEG, WebP, ... file",
            remedy="correct the row",
        ) from error
