"""Public randomness is the same bits everywhere: published vectors, golden values, and what each draw promises."""

import doctest
import hashlib
import itertools

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from fedpeft.randomness import Stream, derive, derive_seed, streams

PARTS = st.lists(st.one_of(st.integers(-(2**127), 2**127 - 1), st.text(st.characters(exclude_categories=["Cs"]))))


def keystream(key, blocks):
    return Stream(key).uint64(8 * blocks).astype("<u8").tobytes().hex()


def golden():
    return Stream(derive(1, "golden"))


# --- the keystream ---


def test_rfc_8439_zero_key():
    """RFC 8439, appendix A.1, vectors 1 and 2: blocks 0 and 1 of the zero key and nonce."""
    assert keystream(bytes(32), 2) == (
        "76b8e0ada0f13d90405d6ae55386bd28bdd219b8a08ded1aa836efcc8b770dc7"
        "da41597c5157488d7724e03fb8d84a376a43b8f41518a11cc387b669b2ee6586"
        "9f07e7be5551387a98ba977c732d080dcb0f29a048e3656912c6533e32ee7aed"
        "29b721769ce64e43d57133b074d839d531ed1f28510afb45ace10a1f4b794d6f"
    )


def test_rfc_8439_other_key():
    """RFC 8439, appendix A.1, vector 4: block 2 of the key 00 ff 00 ... 00."""
    assert keystream(b"\x00\xff" + bytes(30), 3)[256:] == (
        "72d54dfbf12ec44b362692df94137f328fea8da73990265ec1bbbea1ae9af0ca"
        "13b25aa26cb4a648cb9b9d1be65b2c0924a66c54d545ec1b7374f4872e99f096"
    )


@pytest.mark.parametrize("length", [0, 16, 31, 33])
def test_key_of_another_length_is_refused(length):
    with pytest.raises(ValueError):
        Stream(bytes(length))


# --- keys ---


def test_key_is_the_hash_that_the_docstring_gives():
    written_out = (
        b"fedpeft/1"
        + bytes([7, 0, 0, 0, 0, 0, 0, 0])
        + b"\x00\x05\x00\x00\x00label"
        + b"\x01\x03"
        + bytes(15)
        + b"\x01"
        + b"\xff" * 16
        + b"\x00\x02\x00\x00\x00\xc3\xa9"
    )
    assert derive(7, "label", 3, -1, "é") == hashlib.sha256(written_out).digest()


def test_golden_keys():
    assert derive(0, "a").hex() == "2cb496cc81458337cfe84409022f4217681d508ea3a1f172aa58de18de3a139d"
    assert derive(2**64 - 1, "label", -1, "c03", 2**127 - 1).hex() == (
        "109135d668c86f45871165c5770a5536cce4b278c94ac9d7a9ea1b3fa5675271"
    )
    assert derive_seed(7, "select", 3, 0) == 3379966460377725783


@settings(deadline=None)
@given(PARTS, PARTS)
@example(["ab"], ["a", "b"])
@example(["1"], [1])
@example([1, 2], [1 + (2 << 64)])
@example([], [""])
@example(["a\x01"], ["a", 1])
@example([-1], [2**64 - 1])
def test_different_parts_give_different_keys(left, right):
    assert (derive(5, "label", *left) == derive(5, "label", *right)) == (left == right)


def test_seed_label_and_parts_all_count():
    keys = [derive(5, "label", "x"), derive(6, "label", "x"), derive(5, "labelx"), derive(5, "x", "label")]
    assert len(set(keys)) == len(keys)


def test_numpy_integers_are_numbers():
    assert derive(np.uint64(5), "label", np.int32(3)) == derive(5, "label", 3)


@pytest.mark.parametrize("seed", [-1, 2**64])
def test_seed_out_of_range(seed):
    with pytest.raises(ValueError, match=r"2\^64"):
        derive(seed, "label")


@pytest.mark.parametrize("part", [2**127, -(2**127) - 1])
def test_part_out_of_range(part):
    with pytest.raises(ValueError, match="128 bits"):
        derive(0, "label", part)


@pytest.mark.parametrize("part", [1.5, None, b"c03"])
def test_part_of_another_type(part):
    with pytest.raises(TypeError):
        derive(0, "label", part)


def test_derived_seed_is_uint64():
    seeds = [derive_seed(1, "range", k) for k in range(200)]
    assert all(0 <= seed < 2**64 for seed in seeds)
    assert max(seeds) > 2**63  # the top bit is used


# --- draws ---


def test_golden_draws():
    stream = golden()
    assert stream.uint64(3).tolist() == [3789004968899747664, 12615029839586231325, 8470768995695912375]
    assert stream.uniform(2).tolist() == [0.4687719262841056, 0.6835776100884122]
    assert stream.below(1000) == 516
    assert stream.permutation(8).tolist() == [5, 7, 2, 1, 0, 4, 6, 3]
    assert stream.sample(20, 4) == [8, 17, 5, 6]


@settings(deadline=None)
@given(st.lists(st.integers(0, 40), max_size=6))
def test_draws_do_not_depend_on_how_they_are_split(counts):
    stream = golden()
    pieces = [stream.uint64(count) for count in counts]
    assert np.concatenate([*pieces, stream.uint64(0)]).tolist() == golden().uint64(sum(counts)).tolist()


def test_dtypes_and_shapes():
    stream = golden()
    for draw, dtype in ((stream.uint64, np.uint64), (stream.uniform, np.float64), (stream.permutation, np.int64)):
        for n in (0, 1, 7):
            values = draw(n)
            assert (values.dtype, values.shape) == (dtype, (n,))
            assert values.flags.writeable


def test_uniform_is_the_upper_53_bits():
    values = golden().uniform(1000)
    assert (values >= 0).all()
    assert (values < 1).all()
    grid = values * 2.0**53
    assert (grid == np.floor(grid)).all()
    assert grid.tolist() == [float(draw >> 11) for draw in golden().uint64(1000).tolist()]


def test_uniform_never_reaches_one(monkeypatch):
    stream = golden()
    monkeypatch.setattr(stream, "uint64", lambda n: np.full(n, 2**64 - 1, dtype=np.uint64))
    assert stream.uniform(1)[0] == 1 - 2.0**-53


def test_uniform_looks_uniform():
    """Chi-squared over 64 cells; the stream is fixed, so this either always passes or never."""
    counts = np.histogram(golden().uniform(64_000), bins=64, range=(0, 1))[0]
    assert ((counts - 1000) ** 2 / 1000).sum() < 110  # 63 degrees of freedom: p = 0.0002


@settings(deadline=None)
@given(st.integers(1, 2**64))
def test_below_stays_below(n):
    assert 0 <= golden().below(n) < n


def test_below_the_largest_is_the_draw_itself():
    assert golden().below(2**64) == golden().uint64(1)[0]


def test_below_rejects_what_would_be_biased(monkeypatch):
    """With n = 3 · 2^62 the draws from n up would make the small numbers twice as likely."""
    n = 3 * 2**62
    draws = iter([n, 2**64 - 1, n - 1])
    stream = golden()
    monkeypatch.setattr(stream, "uint64", lambda count: np.array([next(draws)], dtype=np.uint64))
    assert stream.below(n) == n - 1
    assert next(draws, None) is None


@pytest.mark.parametrize("n", [0, -1, 2**64 + 1])
def test_below_out_of_range(n):
    with pytest.raises(ValueError, match=r"2\^64"):
        golden().below(n)


@settings(deadline=None)
@given(st.integers(0, 200))
def test_permutation_has_each_number_once(n):
    assert sorted(golden().permutation(n).tolist()) == list(range(n))


def test_permutations_are_equally_likely():
    """Chi-squared over the 24 orders of 4."""
    stream = golden()
    seen = dict.fromkeys(itertools.permutations(range(4)), 0)
    for _ in range(2400):
        seen[tuple(stream.permutation(4).tolist())] += 1
    assert sum((count - 100) ** 2 / 100 for count in seen.values()) < 53  # 23 degrees of freedom: p = 0.0004


def test_permutation_is_redrawn_on_a_tie(monkeypatch):
    draws = iter([[4, 4, 1], [5, 9, 2]])
    stream = golden()
    monkeypatch.setattr(stream, "uint64", lambda n: np.array(next(draws), dtype=np.uint64))
    assert stream.permutation(3).tolist() == [2, 0, 1]


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 60), st.data())
def test_sample_is_distinct_and_in_range(n, data):
    k = data.draw(st.integers(0, n))
    drawn = golden().sample(n, k)
    assert len(drawn) == len(set(drawn)) == k
    assert set(drawn) <= set(range(n))
    assert all(type(number) is int for number in drawn)


@pytest.mark.parametrize(("n", "k"), [(3, 4), (3, -1), (0, 1)])
def test_sample_out_of_range(n, k):
    with pytest.raises(ValueError, match="k = "):
        golden().sample(n, k)


def test_examples_in_the_docstrings():
    assert doctest.testmod(streams) == doctest.TestResults(failed=0, attempted=2)
