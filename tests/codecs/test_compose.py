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
        ("topk(most)+fp16", '"topk" takes a number for share, not "most"'),
        ("lowrank(four)+int4", '"lowrank" takes a number for rank, not "four"'),
        ("lgreco(bits=few)+zstd", '"lgreco" takes a number for bits, not "few"'),
        ("compeft(many)", '"compeft" takes a number for density, not "many"'),
        ("topk+fp16", r'codec "topk\+fp16": "topk" needs a value: share'),
        ("topk()+fp16", r'"topk" needs a value: share'),
        ("topk(0.1,0.2)+sign", '"topk" takes 1 value, and 2 are given: 0.1, 0.2'),
        ("rotate(3)+int4", '"rotate" takes no values, and 1 is given: 3'),
        ("fp16(3)", '"fp16" takes no values, and 1 is given: 3'),
        ("uniform(0.8)+zstd(3)", '"zstd" takes no values, and 1 is given: 3'),
        ("compeft(0.1,1,2)", '"compeft" takes 2 values, and 3 are given'),
        ("int8(64)", 'rounding = "64" must be nearest or dither'),
        ("int4(fast)", 'rounding = "fast" must be nearest or dither'),
        ("int4(dither, 2)", '"int4" takes 1 value, and 2 are given: dither, 2'),
        ("topk(0.1)+bitdelta", '"bitdelta" treats each tensor by itself, and behind "topk" there are none'),
        ("rotate+lowrank(4)+fp16", '"lowrank" treats each tensor by itself, and behind "rotate" there are none'),
        ("lowrank(4)+lgreco(0.1)+zstd", '"lgreco" treats each tensor by itself, and behind "lowrank" there are none'),
        ("lgreco(0.1)+int8", '"int8" is a codec, and a coder belongs there'),
        ("topk(part=0.1)+fp16", 'stage "topk" has no parameter part'),
        ("topk(share=0.1, share=0.2)+fp16", "share is told twice"),
        ("topk(0.1, share=0.2)+fp16", '"topk" is told share twice'),
        ("lgreco(bits=1, 0.1)+zstd", '"0.1" stands behind a value with a name'),
        ("topk(inner=0.1)+fp16", 'stage "topk" has no parameter inner'),
    ],
)
def test_a_name_that_means_nothing_is_refused(name, words):
    with pytest.raises(PluginError, match=words):
        codec(name)


@pytest.mark.parametrize(
    ("name", "message", "remedy"),
    [
        ("topk", '"topk" is a stage, and a codec belongs there', "put a codec behind it, e.g. topk(0.05)+sign"),
        ("uniform", '"uniform" is a stage', "put a coder behind it, e.g. uniform(0.8)+zstd"),
        ("lgreco", '"lgreco" is a stage', "put a coder behind it, e.g. lgreco(0.33)+zstd"),
        ("uniform(1.2)", '"uniform" is a stage', "append a coder, +zstd or +ans: uniform(1.2)+zstd"),
        ("lgreco(0.33)", '"lgreco" is a stage', "append a coder, +zstd or +ans: lgreco(0.33)+zstd"),
        ("topk(0.1)+own/mine.py:Mine", "there is no file", "one in a file stands alone"),
        ("zstd", '"zstd" is a coder', "uniform(0.8)+zstd"),
        ("ans", '"ans" is a coder', "uniform(0.8)+ans"),
        ("topkk", 'codec "topkk" is not known', 'did you mean "topk"?'),
        ("nonsense", 'codec "nonsense" is not known', "install the package that brings it"),
        ("int4+rotate", '"int4" is a codec, and a stage belongs there', "a codec stands last"),
        ("uniform(0.8)+int8", "a coder belongs there", "name a coder there: uniform(0.8)+zstd"),
        ("topk+sign", "needs a value: share", "write it in parentheses: topk(share)"),
        ("rotate(3)+int4", "takes no values", "write rotate alone"),
        ("topk(0.1,0.2)+sign", "takes 1 value", "leave out 0.2"),
        ("topk(0.05)+ternary+rice", '"ternary" is not known', "write topk(0.05)+sign"),
        ("topk(0.05)+ternary", '"ternary" is not known', "write topk(0.05)+sign"),
        ("topk(0.05)+sign+rice", "a stage belongs there", "leave it out"),
        ("ternary", 'codec "ternary" is not known', "write topk(0.05)+sign"),
    ],
)
def test_who_does_not_know_how_parts_go_together_is_told(name, message, remedy):
    with pytest.raises(PluginError) as caught:
        codec(name)
    assert message in caught.value.message
    assert remedy in caught.value.remedy
    assert "inner" not in caught.value.render()


@pytest.mark.parametrize("stage", names("stage"))
def test_the_example_of_every_stage_is_a_codec(stage):
    with pytest.raises(PluginError) as caught:
        codec(stage)
    example = caught.value.remedy.rpartition("e.g. ")[2]
    assert codec(example).name == example


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


@pytest.mark.parametrize(("name", "levels"), [("int4", 7), ("int8", 127)])
def test_dither_has_next_to_no_bias(name, levels):
    values = np.full(64 * 500, 0.3, dtype=np.float32)
    values[::64] = levels  # the scale of each block is 1
    subject = codec(f"{name}(dither)")
    found = subject.decode(subject.encode(values), values.size)
    others = found[np.arange(values.size) % 64 > 0]
    assert set(np.unique(others)) == {0.0, 1.0}
    assert others.mean() == pytest.approx(0.3, abs=4 * np.sqrt(0.21 / others.size) + 1 / 512)
    nearest = codec(name)
    assert not nearest.decode(nearest.encode(values), values.size)[1:64].any()
    assert subject.encode(values) == codec(f"{name}(rounding=dither)").encode(values.copy()) != nearest.encode(values)


@pytest.mark.parametrize(("name", "levels"), [("int4", 7), ("int8", 127)])
@pytest.mark.parametrize("sign", [-1, 1])
def test_a_byte_of_dither_does_not_see_less_than_a_512th_of_a_step(name, levels, sign):
    values = np.full(64 * 500, sign * 0.99 / 512, dtype=np.float32)
    values[::64] = levels
    subject = codec(f"{name}(dither)")
    assert not (found := subject.decode(subject.encode(values), values.size))[1:64].any()
    assert np.count_nonzero(found) == 500
    values[np.arange(values.size) % 64 > 0] = sign * 1.5 / 512
    assert np.count_nonzero(subject.decode(subject.encode(values), values.size)) > 500


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


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("dare(0.5)+uniform(0.8)+zstd", np.zeros(1_000_000, np.float32)),
        ("dare(0.5)+uniform(0.8)+ans", np.zeros(1_000_000, np.float32)),
        ("dare(0.5)+topk(0.001)+sign", gaussian(200_000)),
        ("dare(0.5)+sketch(0.001)+sign", gaussian(200_000)),
    ],
)
def test_what_is_kept_at_random_may_take_next_to_no_bytes(name, values):
    subject = codec(name)
    found = subject.decode(subject.encode(values), values.size)
    assert found.any() == values.any()


@pytest.mark.parametrize(
    ("count", "words"), [(0xFFFFFFFF, "4294967295 of 1000 values"), (1000, "1000 bytes|2000 bytes"), (499, "bytes")]
)
def test_another_number_of_kept_values_is_refused(count, words):
    subject = codec("dare(0.5)+fp16")
    body = subject.encode(gaussian(1000))
    with pytest.raises(MalformedPayload, match=words):
        subject.decode(body[:12] + count.to_bytes(4, "little") + body[16:], 1000)


def test_a_number_of_kept_values_that_is_not_drawn_is_refused():
    subject, kept = codec("dare(0.5)+fp16"), codec("dare(0.5)+fp16").encode(gaussian(1000))
    count = int.from_bytes(kept[12:16], "little")
    with pytest.raises(MalformedPayload, match=f"{count + 1} values are kept") as caught:
        subject.decode(kept[:12] + (count + 1).to_bytes(4, "little") + kept[16:] + bytes(2), 1000)
    assert caught.value.allowed == f"the {count} that it draws"


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
