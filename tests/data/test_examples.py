"""The three kinds of examples hold what they say, and refuse what does not fit."""

import numpy as np
import pytest

from fedpeft.data import ImageExamples, PromptExamples, TextExamples
from fedpeft.errors import DataError

PIXELS = np.zeros((2, 3, 3), dtype=np.uint8)
TEXTS = TextExamples(("a", "b", "c"), np.array([0, 1, 2]), ((0, 1), (1, 2), (0, 2)))
IMAGES = ImageExamples(("/a.png", PIXELS), np.array([0, 1]))
CHAT = ({"role": "user", "content": "hi"}, {"role": "assistant", "content": "hello"})
PROMPTS = PromptExamples((CHAT, ({"role": "assistant", "content": "once"},)))


def test_take_keeps_what_belongs_together():
    part = TEXTS.take([2, 0, 2])
    assert (part.texts, part.labels.tolist()) == (("c", "a", "c"), [2, 0, 2])
    assert part.choices == ((0, 2), (0, 1), (0, 2))
    assert TextExamples(("a",), np.array([0])).take([0]).choices is None
    assert PROMPTS.take([1]).messages == (({"role": "assistant", "content": "once"},),)
    pictures = IMAGES.take(np.array([1]))
    assert pictures.images[0] is PIXELS
    assert pictures.labels.tolist() == [1]


@pytest.mark.parametrize("examples", [TEXTS, IMAGES, PROMPTS], ids=lambda examples: type(examples).__name__)
def test_length_none_and_beyond(examples):
    assert len(examples.take([])) == 0
    assert len(examples.take(range(len(examples)))) == len(examples)
    with pytest.raises(IndexError):
        examples.take([len(examples)])


def test_labels_are_a_copy_that_cannot_be_written():
    given = np.array([0, 1])
    examples = ImageExamples(("a", "b"), given)
    given[0] = 1
    assert examples.labels.tolist() == [0, 1]
    with pytest.raises(ValueError, match="read-only"):
        examples.labels[0] = 1


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: TextExamples(("a", "b"), np.array([0])), "2 texts came with labels of shape"),
        (lambda: ImageExamples(("a",), np.array([0, 1])), "1 images came with labels of shape"),
        (lambda: TextExamples(("a", "b"), np.array([0, 1]), ((0,),)), "2 texts came with 1 sets of choices"),
        (lambda: TextExamples(("a",), np.array([1]), ((0, 2),)), "text 0 has label 1, which is not one of its choices"),
        (lambda: PromptExamples((CHAT, ())), "chat 1 has no messages"),
        (lambda: PromptExamples((CHAT[:1],)), 'chat 0 ends with a message of the role "user"'),
        (lambda: PromptExamples((({"role": "assistant"},),)), "chat 0 has no content in message 1"),
        (lambda: PromptExamples((({"role": 3, "content": "x"},),)), "chat 0 has no role in message 1"),
    ],
)
def test_what_does_not_fit_is_refused(make, message):
    with pytest.raises(DataError, match=message):
        make()
