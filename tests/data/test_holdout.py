"""Each client keeps a seeded share for itself, and loses nothing."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedpeft.data.corpus import TextExamples
from fedpeft.data.holdout import hold_out


def examples(count: int) -> TextExamples:
    return TextExamples(tuple(f"text {index}" for index in range(count)), np.arange(count))


@pytest.mark.parametrize(
    ("count", "share", "kept"),
    [(100, 0.1, 10), (3, 0.1, 1), (2, 0.1, 1), (1, 0.5, 0), (10, 0.0, 0), (4, 0.99, 3), (0, 0.5, 0)],
)
def test_how_many_are_kept(count, share, kept):
    data = hold_out(examples(count), share, seed=7, client="c00")
    assert (len(data.test), len(data.train)) == (kept, count - kept)


@settings(max_examples=50, deadline=None)
@given(count=st.integers(0, 60), share=st.floats(0, 0.99), seed=st.integers(0, 2**64 - 1))
def test_every_example_is_in_one_split(count, share, seed):
    data = hold_out(examples(count), share, seed=seed, client="c00")
    assert sorted([*data.train.texts, *data.test.texts]) == sorted(examples(count).texts)


def test_seed_and_client_choose_what_is_kept():
    def kept(seed: int, client: str) -> tuple[str, ...]:
        return hold_out(examples(100), 0.1, seed=seed, client=client).test.texts

    assert kept(7, "c00") == kept(7, "c00")
    assert kept(7, "c00") != kept(7, "c01")
    assert kept(7, "c00") != kept(8, "c00")
