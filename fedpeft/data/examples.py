"""Examples as plain data, before any tokenizer has seen them: labelled texts, chats, labelled images.

A task says which of the three it reads (`examples = "text"`, `"prompt"` or `"image"`); a source hands it just those.
All three know their length and can be taken apart by index, and none needs torch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from fedpeft.errors import DataError

Indices: TypeAlias = Sequence[int] | npt.NDArray[np.int64]
ExamplesKind: TypeAlias = Literal["text", "prompt", "image"]  # what a task's `examples` attribute says
Message: TypeAlias = Mapping[str, str]  # {"role": "user", "content": "..."}, as tokenizers' chat templates take it
Image: TypeAlias = str | npt.NDArray[np.uint8]  # an absolute path, or shape (height, width, 3), RGB


@dataclass(frozen=True, slots=True, eq=False)
class TextExamples:
    """One split of n texts and their labels.

    Raises:
        DataError: there is not exactly one label for each text, or not one set of choices that its label is in.
    """

    texts: tuple[str, ...]
    labels: npt.NDArray[np.int64]  # shape (n,), index into Corpus.label_names; a read-only copy of what was given
    choices: tuple[tuple[int, ...], ...] | None = None  # of each example the labels it may be given; None: all of them

    def __post_init__(self) -> None:
        object.__setattr__(self, "labels", _labels_of(len(self.texts), "text", self.labels))
        if self.choices is None:
            return
        if len(self.choices) != len(self.texts):
            raise DataError(
                f"{len(self.texts)} texts came with {len(self.choices)} sets of choices",
                code="data.shape",
                allowed=f"{len(self.texts)} sets of choices, or None",
                remedy="give the labels to choose from for each text",
            )
        for place, (label, allowed) in enumerate(zip(self.labels.tolist(), self.choices, strict=True)):
            if label not in allowed:
                raise DataError(
                    f"text {place} has label {label}, which is not one of its choices {allowed}",
                    code="data.choices",
                    allowed="choices that hold the right answer",
                    remedy="add the label to the choices",
                )

    def __len__(self) -> int:
        return len(self.texts)

    def take(self, indices: Indices) -> TextExamples:
        """The examples at `indices`, in that order; an index may come twice.

        Raises:
            IndexError: an index is not in [-n, n).
        """
        positions = np.asarray(indices, dtype=np.int64)
        choices = None if self.choices is None else tuple(self.choices[position] for position in positions)
        return TextExamples(tuple(self.texts[position] for position in positions), self.labels[positions], choices)


@dataclass(frozen=True, slots=True, eq=False)
class PromptExamples:
    """One split of n chats. The last message of each is the assistant's: what the model should learn to say.

    A prompt with its response is a chat of two messages; a plain text to continue is one message of the assistant, so
    that all of it is learnt.

    Raises:
        DataError: a chat is empty, a message has no role or content, or the last one is not the assistant's.
    """

    messages: tuple[tuple[Message, ...], ...]

    def __post_init__(self) -> None:
        for place, chat in enumerate(self.messages):
            fault = _fault_of(chat)
            if fault is not None:
                raise DataError(
                    f"chat {place} {fault}",
                    code="data.chat",
                    allowed='messages {"role": ..., "content": ...}, the last one with the role "assistant"',
                    remedy="correct the chat, or leave it out",
                )

    def __len__(self) -> int:
        return len(self.messages)

    def take(self, indices: Indices) -> PromptExamples:
        """The chats at `indices`, in that order; an index may come twice.

        Raises:
            IndexError: an index is not in [-n, n).
        """
        return PromptExamples(tuple(self.messages[position] for position in np.asarray(indices, dtype=np.int64)))


@dataclass(frozen=True, slots=True, eq=False)
class ImageExamples:
    """One split of n images and their labels.

    Raises:
        DataError: there is not exactly one label for each image.
    """

    images: tuple[Image, ...]
    labels: npt.NDArray[np.int64]  # shape (n,), index into Corpus.label_names; a read-only copy of what was given

    def __post_init__(self) -> None:
        object.__setattr__(self, "labels", _labels_of(len(self.images), "image", self.labels))

    def __len__(self) -> int:
        return len(self.images)

    def take(self, indices: Indices) -> ImageExamples:
        """The examples at `indices`, in that order; an index may come twice.

        Raises:
            IndexError: an index is not in [-n, n).
        """
        positions = np.asarray(indices, dtype=np.int64)
        return ImageExamples(tuple(self.images[position] for position in positions), self.labels[positions])


Examples: TypeAlias = TextExamples | PromptExamples | ImageExamples
EXAMPLES: Mapping[ExamplesKind, type[Examples]] = {
    "text": TextExamples,
    "prompt": PromptExamples,
    "image": ImageExamples,
}


def _labels_of(count: int, what: str, given: npt.ArrayLike) -> npt.NDArray[np.int64]:
    labels = np.array(given, dtype=np.int64)
    if labels.shape != (count,):
        raise DataError(
            f"{count} {what}s came with labels of shape {labels.shape}",
            code="data.shape",
            allowed=f"shape ({count},)",
            remedy=f"give one label for each {what}",
        )
    labels.setflags(write=False)
    return labels


def _fault_of(chat: Sequence[Message]) -> str | None:
    if not chat:
        return "has no messages"
    for number, message in enumerate(chat, start=1):
        for key in ("role", "content"):
            if not isinstance(message.get(key), str):
                return f"has no {key} in message {number}"
    if chat[-1]["role"] != "assistant":
        return f'ends with a message of the role "{chat[-1]["role"]}"'
    return None
