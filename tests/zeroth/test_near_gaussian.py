"""Popcounts: nearly normal, by the specification."""

import json
from pathlib import Path

import numpy as np
import pytest

from fedpeft.randomness import derive
from fedpeft.randomness.directions import words
from fedpeft.zeroth.near_gaussian import NearGaussianPool

GOLDEN = json.loads((Path(__file__).parents[1] / "randomness" / "directions_golden.json").read_text())
OWN = [entry for entry in GOLDEN if entry["parts"][0] == "zeroth/near-gaussian"]


def test_a_number_is_how_many_of_its_bits_are_ones():
    found = NearGaussianPool(8, 5).direction(3, 6, 16, 5000).values()
    own = words(derive(5, "zeroth/near-gaussian", 3, 6), 16, 5000)
    assert found.tolist() == [(int(word).bit_count() - 8) / 2 for word in own]
    assert found.dtype == np.float32


@pytest.mark.parametrize("entry", OWN, ids=lambda entry: f"{entry['seed']}-{entry['parts']}")
def test_golden_values(entry):
    _, epoch, number = entry["parts"]
    found = NearGaussianPool(65536, entry["seed"]).direction(epoch, number, entry["begin"], 8).values()
    assert found.tolist() == [(word.bit_count() - 8) / 2 for word in entry["words"]]


def test_there_are_golden_values():
    assert len(OWN) >= 4


def test_moments():
    z = NearGaussianPool(1, 0).direction(0, 0, 0, 1 << 20).values().astype(np.float64)
    moments = [float((z**power).mean()) for power in (1, 2, 3, 4)]
    np.testing.assert_allclose(moments, [0, 1, 0, 2.875], atol=0.03)
