"""Classify images by the architecture's own image classifier; a fresh head is trained and travels with the adapter.

Images stay what they were given as, paths or small arrays, and become tensors batch by batch: at a model's resolution a
client's images would fill its memory (0.6 MB each at 224 x 224).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F

from fedpeft.adapters import ArchitectureName
from fedpeft.data import ImageExamples
from fedpeft.data.images import in_rgb
from fedpeft.errors import DataError
from fedpeft.training.task import Outcomes, TaskContext


@dataclass(frozen=True, slots=True)
class ImageBatch:
    """n images of one size."""

    pixel_values: torch.Tensor  # fp32, shape (n, channels, height, width), as the base's processor makes it
    labels: torch.Tensor  # int64, shape (n,)


class Images:
    """Image classification.

    Args:
        context: the base's image processor.
    """

    architecture: ArchitectureName = "image-classifier"
    examples = "image"

    def __init__(self, context: TaskContext) -> None:
        self.processor = context.processor

    def encode(self, examples: ImageExamples) -> ImageExamples:
        """The images as they are, once every file is known to be one.

        Raises:
            DataError: a file is missing or is no image.
        """
        for image in examples.images:
            if isinstance(image, str):
                _open(image).close()  # reads the header only
        return examples

    def select(self, data: ImageExamples, indices: Sequence[int]) -> ImageExamples:
        """The images at `indices`."""
        return data.take(indices)

    def pool(self, data: Sequence[ImageExamples]) -> ImageExamples:
        """All images of several clients."""
        images = tuple(image for part in data for image in part.images)
        return ImageExamples(images, np.concatenate([part.labels for part in data]))

    def batch(self, data: ImageExamples, indices: npt.NDArray[np.int64]) -> ImageBatch:
        """The images at `indices`, resized and normalised.

        Raises:
            DataError: a file is no longer there, or its image is cut off.
        """
        images = [_pixels(data.images[i]) for i in indices]
        pixel_values = self.processor(images=images, return_tensors="pt")["pixel_values"]
        return ImageBatch(pixel_values, torch.from_numpy(data.labels[indices]))

    def prepare(self, model: torch.nn.Module) -> None:
        """Nothing stays fixed."""

    def outcomes(self, model: torch.nn.Module, batch: ImageBatch, prepared: None) -> Outcomes:
        """See `Task.outcomes`."""
        base = next((parameter for parameter in model.parameters() if not parameter.requires_grad), batch.pixel_values)
        logits = model(pixel_values=batch.pixel_values.to(base.dtype)).logits.float()  # (n, labels)
        return Outcomes(
            F.cross_entropy(logits, batch.labels, reduction="none"),
            {"accuracy": (logits.argmax(1) == batch.labels).float()},
        )


def _pixels(image: Any) -> Any:
    """An RGB image of Pillow, from a path or an array of shape (height, width, 3)."""
    from PIL import Image

    if not isinstance(image, str):
        return Image.fromarray(image).convert("RGB")
    with _open(image) as opened:
        try:
            return in_rgb(opened)
        except (OSError, SyntaxError, ValueError) as error:
            raise _unreadable(image, error) from error


def _open(path: str) -> Any:
    from PIL import Image, UnidentifiedImageError

    try:
        return Image.open(Path(path))
    except (OSError, UnidentifiedImageError, Image.DecompressionBombError) as error:
        raise _unreadable(path, error) from error


def _unreadable(path: str, error: BaseException) -> DataError:
    return DataError(
        f"the image {path} cannot be read: {error}",
        code="data.image",
        allowed="a file that Pillow reads, e.g. PNG or JPEG",
        remedy="replace it, or leave its row out",
    )
