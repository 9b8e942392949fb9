"""The sketch: its error, that it is linear, and that another delta is hashed otherwise."""

import numpy as np
import pytest

from fedpeft.codecs.sketch import Sketch
from fedpeft.errors import PluginError
from fedpeft.registry import build


def normal(size=50_000, seed=0):
    return np.random.default_rng(seed).standard_normal(size).astype(np.float32)


def codec(share):
    return build("codec", f"sketch({share})+fp32", {})


@pytest.mark.parametrize("share", [0.05, 0.1, 0.5, 1.0])
def test_the_error_is_the_one_that_is_stated(share):
    values, subject = normal(), codec(share)
    found = subject.decode(subject.encode(values), values.size)
    expected = np.sqrt(1 - share * (1 - np.exp(-1 / share)))
    assert np.linalg.norm(found - values) / np.linalg.norm(values) == pytest.approx(expected, rel=0.01)


def test_it_is_a_projection():
    """What comes back is no longer than what went in, and at right angles to what is lost."""
    values, subject = normal(), codec(0.2)
    found = subject.decode(subject.encode(values), values.size).astype(np.float64)
    assert found @ (values - found) == pytest.approx(0, abs=1e-3 * (found @ found))


def test_it_is_linear_under_one_nonce():
    """Which no two deltas of a run share: see the next test."""
    subject = codec(0.1)
    one, two = normal(1000), normal(1000, seed=1)
    head = subject.encode(one)[:12]
    buckets, factors = subject._hashes(head[4:], 1000)

    def sums(values):
        return np.bincount(buckets, weights=values * factors, minlength=100).astype("<f4")

    assert head + sums(one).tobytes() == subject.encode(one)
    together = subject.decode(head + (sums(one) + sums(two)).tobytes(), 1000)
    apart = subject.decode(head + sums(one).tobytes(), 1000) + subject.decode(head + sums(two).tobytes(), 1000)
    np.testing.assert_allclose(together, apart, atol=1e-6)


def test_another_delta_is_hashed_otherwise():
    subject = codec(0.1)
    assert subject.encode(normal(100))[4:12] != subject.encode(normal(100, seed=1))[4:12]


def test_one_value_has_a_bucket_of_its_own():
    subject = Sketch(build("codec", "fp32", {}), 0.001)
    assert subject.decode(subject.encode(np.float32([-2.5])), 1).tolist() == [-2.5]


@pytest.mark.parametrize("share", ["0", "1.1", "nan", "-0.1"])
def test_a_share_that_is_none_is_refused(share):
    with pytest.raises(PluginError, match=r"share = .* must be from 0.001 to 1"):
        codec(share)
