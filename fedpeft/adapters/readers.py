"""What turns examples into a model's inputs: its tokenizer, or its image processor."""

from __future__ import annotations

import importlib.util
from typing import Any

from fedpeft.errors import ModelError


def tokenizer_of(location: str, source: str) -> Any:
    """The tokenizer saved beside a model.

    Args:
        location: folder or hub id.
        source: what the run file calls it.

    Raises:
        ModelError: its files are missing.
        OSError: and what else `transformers` raises: it cannot be loaded.
    """
    import transformers

    tokenizer = transformers.AutoTokenizer.from_pretrained(location)
    if len(tokenizer) <= len(tokenizer.all_special_tokens):  # transformers makes one up where the files are missing
        raise ModelError(
            f"model.source = {source!r}: its tokenizer knows no words; the tokenizer's files are missing",
            code="model.no-tokenizer",
            allowed="a folder with tokenizer.json, or the vocabulary files of its kind of tokenizer",
            remedy="save the tokenizer beside the model: tokenizer.save_pretrained(folder)",
        )
    return tokenizer


def image_processor_of(location: str, source: str) -> Any:
    """The image processor saved beside a model, by Pillow: the same numbers on every machine.

    Args:
        location: as there.
        source: as there.

    Raises:
        ModelError: Pillow is not installed.
        OSError: as there.
    """
    if importlib.util.find_spec("PIL") is None:
        raise ModelError(
            f"model.source = {source!r} reads images, and Pillow is not installed",
            code="model.no-pillow",
            remedy="pip install 'fedpeft[images]'",
        )
    import transformers

    return transformers.AutoImageProcessor.from_pretrained(location, backend="pil")
