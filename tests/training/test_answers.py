"""ROUGE-L and exact match, against figures worked out by hand and by counting."""

from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedpeft.training.tasks.answers import exact_match, rouge_l


@pytest.mark.parametrize(
    ("answer", "reference", "f"),
    [
        # Lin 2004, section 3.2: LCS of 3, 2 and 2 of 4 words.
        ("police kill the gunman", "police killed the gunman", 0.75),
        ("the gunman kill police", "police killed the gunman", 0.5),
        ("the gunman police killed", "police killed the gunman", 0.5),
        ("a b c d", "a x b y c z d w", 2 * 1.0 * 0.5 / 1.5),
        ("The cat!", "the CAT", 1.0),
        ("don't", "don t", 1.0),
        ("снег идёт", "идёт снег", 0.5),
        ("", "", 1.0),
        ("...", "", 1.0),
        ("", "word", 0.0),
        ("word", "?!", 0.0),
    ],
)
def test_rouge_l_is_the_f_of_the_longest_common_subsequence(answer, reference, f):
    assert rouge_l(answer, reference) == pytest.approx(f)


WORDS = st.lists(st.sampled_from("abc"), max_size=6)


@given(WORDS, WORDS)
def test_it_agrees_with_trying_every_subsequence(x, y):
    common = max(
        len(chosen)
        for size in range(len(x) + 1)
        for chosen in combinations(x, size)
        if list(chosen) in [list(other) for other in combinations(y, size)]
    )
    expected = 2 * common / (len(x) + len(y)) if x and y else float(x == y)
    assert rouge_l(" ".join(y), " ".join(x)) == pytest.approx(expected)
    assert rouge_l(" ".join(x), " ".join(y)) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("answer", "reference", "same"),
    [
        ("blue", "blue", 1.0),
        (" blue \n sky", "blue sky", 1.0),
        ("Blue", "blue", 0.0),
        ("blue.", "blue", 0.0),
        ("", " ", 1.0),
    ],
)
def test_exact_match_forgives_white_space_only(answer, reference, same):
    assert exact_match(answer, reference) == same
