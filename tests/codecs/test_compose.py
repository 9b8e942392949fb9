"""Names of composed codecs, and what top-k, rotation and dither do to a vector."""

import sys

import numpy as np
import pytest

from fedpeft.codecs import MalformedPayload
from fedpeft.codecs.compose import parts_here
from fedpeft.codecs.feedback import compensate
from fedpeft.codecs.topk import TopK
from fedpeft.errors import PluginError
from fedpeft.registry import build, names


def codec(name):
    return build("codec", name, {})


def error(name, values):
    subject = codec(name)
    return np.linalg.norm(subject.decode(subject.encode(values), values.size) - values) / np.linalg.norm(values)


def gaussian(size=40_000, seed=0):
    return np.random.default_rng(seed).standard_normal(size).astype(np.float32)


def test_a_composed_name_is_stages_around_a_codec():
    made = codec("rotate + topk(0.1) + int4(dither)")
    assert made.name == "rotate+topk(0.1)+int4"
    assert (made.inner.share, made.inner.inner.rounding) == (0.1, "dither")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("int4+rotate", '"int4" is a codec, and a stage belongs there'),
        ("rotat+int4", '"rotat" is not known, and a stage belongs there'),
        ("topk(0.1)", '"topk" is a stage, and a codec belongs there'),
        ("rotate+int5", '"int5" is not known, and a codec belongs there'),
        ("uniform(0.8)+int8", '"int8" is a codec, and a coder belongs there'),
        ("uniform(0.8)", '"uniform" is a stage, and a codec belongs there'),
        ("topk(0.1)+zstd", '"zstd" is a coder, and a codec belongs there'),
        ("uniform(0)+zstd", "step = 0.0 must be from 0.001 to 16"),
        ("rotate+", "not of the form stage\\+codec"),
        ("topk(0.1+fp16", "not of the form stage\\+codec"),
        ("rotate+rotate+rotate+rotate+fp16", "not of the form stage\\+codec"),
        ("rotate+forget+int4", '"forget" stands first or not at all'),
        ("dare(0)+fp16", "share = 0.0 must be from 0.001 to 1"),
        ("topk(0)+fp16", "share = 0.0 must be above 0 and at most 1"),
        ("topk(1.5)+fp16", "share = 1.5 must be above 0 and at most 1"),
        ("topk(nan)+fp16", "share = nan must be above 0 and at most 1"),
        ("topk(most)+fp16", "refused its parameters"),
        ("topk+fp16", "refused its parameters"),
        ("int4(fast)", 'rounding = "fast" must be nearest or dither'),
        ("int4(dither, 2)", "int4 takes 1 values, not 2"),
        ("topk(0.1)+bitdelta", '"bitdelta" treats each tensor by itself, and behind "topk" there are none'),
        ("rotate+lowrank(4)+fp16", '"lowrank" treats each tensor by itself, and behind "rotate" there are none'),
        ("lowrank(4)+lgreco(0.1)+zstd", '"lgreco" treats each tensor by itself, and behind "lowrank" there are none'),
        ("lgreco(0.1)+int8", '"int8" is a codec, and a coder belongs there'),
        ("topk(part=0.1)+fp16", 'stage "topk" has no parameter part'),
        ("topk(share=0.1, share=0.2)+fp16", "share is told twice"),
        ("topk(0.1, share=0.2)+fp16", "topk is told share twice"),
        ("lgreco(bits=1, 0.1)+zstd", '"0.1" stands behind a value with a name'),
        ("topk(inner=0.1)+fp16", "topk is told inner twice"),
    ],
)
def test_a_name_that_means_nothing_is_refused(name, words):
    with pytest.raises(PluginError, match=words):
        codec(name)


def test_values_may_be_given_by_name():
    assert codec("topk(share = 0.25)+int4(rounding=dither)").name == codec("topk(0.25)+int4(dither)").name


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("rotate+int44", "int4"),
        ("bitdelt", "bitdelta"),
        ("low-rank(4)+int8", "lowrank"),
        ("sketh(0.1)+fp16", "sketch"),
        ("lgrec(0.1)+ans", "lgreco"),
        ("lgreco(0.1)+zst", "zstd"),
    ],
)
def test_a_near_miss_is_named(name, meant):
    with pytest.raises(PluginError) as caught:
        codec(name)
    assert meant in caught.value.remedy


def test_a_value_s_near_miss_is_named():
    with pytest.raises(PluginError, match="lgreco") as caught:
        codec("lgreco(eror=0.1)+ans")
    assert "error" in caught.value.remedy


def test_the_largest_are_kept_and_of_equals_the_first():
    values = np.array([1, -3, 2, -2, 2, 0], dtype=np.float32)
    subject = codec("topk(0.5)+fp32")
    assert subject.decode(subject.encode(values), 6).tolist() == [0, -3, 2, -2, 0, 0]
    assert codec("topk(0.001)+fp32").decode(codec("topk(0.001)+fp32").encode(values), 6).tolist() == [0, -3, 0, 0, 0, 0]


def test_exactly_the_share_is_kept_of_equal_values():
    subject = codec("topk(0.07)+sign")
    assert np.count_nonzero(subject.decode(subject.encode(np.ones(100, np.float32)), 100)) == 7


def test_signs_of_the_kept_have_their_mean_magnitude():
    values = np.array([4, -2, 1, 0], dtype=np.float32)
    subject = codec("topk(0.5)+sign")
    assert subject.decode(subject.encode(values), 4).tolist() == [3, -3, 0, 0]


def test_ternary_at_a_tenth_is_fifty_times_smaller_than_fp32():
    values = gaussian(330_000)
    assert 4 * values.size / len(codec("topk(0.1)+sign").encode(values)) >= 50


def test_a_rotation_makes_any_values_as_easy_as_gaussian_ones():
    heavy = gaussian() ** 3
    assert error("int4", heavy) > 0.14
    assert error("sign", heavy) > 0.9
    assert error("rotate+int4", heavy) == pytest.approx(error("int4", gaussian()), rel=0.05)
    assert error("rotate+sign", heavy) == pytest.approx(error("sign", gaussian()), rel=0.05)


def test_small_values_beside_a_large_one_need_the_rotation():
    values = gaussian()
    values[::64] *= 100  # one in each block
    ordinary = np.arange(values.size) % 64 > 0
    subject = codec("int4")
    found = subject.decode(subject.encode(values), values.size)
    assert np.count_nonzero(found[ordinary]) < 0.2 * ordinary.sum()


def test_dither_has_no_bias():
    values = np.full(64 * 500, 0.3, dtype=np.float32)
    values[::64] = 7.0  # the scale of each block is 1
    subject = codec("int4(dither)")
    found = subject.decode(subject.encode(values), values.size)
    others = found[np.arange(values.size) % 64 > 0]
    assert set(np.unique(others)) == {0.0, 1.0}
    assert others.mean() == pytest.approx(0.3, abs=4 * np.sqrt(0.21 / others.size) + 0.5 / 256)
    nearest = codec("int4")
    assert not nearest.decode(nearest.encode(values), values.size)[1:64].any()


def test_a_part_is_told_by_the_whole_name():
    subject = codec("topk(0.1)+fp16")
    body = subject.encode(gaussian(100))[:-1]
    with pytest.raises(MalformedPayload, match=r"malformed topk\(0.1\)\+fp16 payload: malformed fp16 payload"):
        subject.decode(body, 100)


def test_a_vector_of_one_element():
    assert TopK(codec("int4"), 0.3).decode(TopK(codec("int4"), 0.3).encode(np.float32([2.5])), 1).tolist() == [2.5]


def test_what_is_dropped_at_random_is_right_on_average():
    values = gaussian(200_000)
    subject = codec("dare(0.1)+fp32")
    found = subject.decode(subject.encode(values), values.size)
    kept = found != 0
    assert kept.mean() == pytest.approx(0.1, abs=4 * np.sqrt(0.09 / values.size))
    assert found[kept] == pytest.approx(10 * values[kept], rel=1e-3)
    assert error("dare(0.1)+fp32", values) == pytest.approx(3.0, rel=0.03)


def test_other_values_are_dropped_in_another_delta():
    one, two = gaussian(1000, seed=1), gaussian(1000, seed=2)
    subject = codec("dare(0.5)+fp32")
    kept = [subject.decode(subject.encode(values), 1000) != 0 for values in (one, two)]
    assert (kept[0] != kept[1]).any()


@pytest.mark.parametrize("name", ["forget+topk(0.1)+fp32", "dare(0.1)+fp32"])
def test_without_feedback_nothing_is_owed(name):
    values, owed = gaussian(1000), np.zeros(1000, dtype=np.float32)
    body, left = compensate(codec(name), values, owed)
    assert body == codec(name).encode(values)
    assert not left.any()
    assert compensate(codec("topk(0.1)+fp32"), values, owed)[1].any()


def test_a_client_without_the_coders_package_does_not_offer_it(monkeypatch):
    assert {"int4", "rotate", "zstd"} <= set(parts_here())
    monkeypatch.setitem(sys.modules, "constriction", None)
    assert set(parts_here()) == set(names("codec")) | set(names("stage")) | {"zstd"}
    with pytest.raises(PluginError, match='coder "ans" needs the package constriction'):
        codec("uniform(1)+ans")
