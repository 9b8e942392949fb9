"""Masks: packed and unpacked, nested as ratios grow, and refused where they are of another model."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedpeft.pruning.mask import choose, kept_of, largest_ratio, unpack
from fedpeft.pruning.ramp import Ramp
from fedpeft.pruning.units import Group, Units

SIZES = st.lists(st.integers(1, 30) | st.sampled_from([256, 270, 272]), min_size=1, max_size=3)


@st.composite
def scored(draw):
    """Sizes of groups, scores with ties, and a ratio that leaves something of every group."""
    sizes = draw(SIZES)
    scores = np.random.default_rng(draw(st.integers(0, 2**32))).integers(0, 6, sum(sizes))
    return sizes, scores.astype(float), draw(st.floats(0, largest_ratio(sizes)))


@settings(deadline=None)
@given(scored())
def test_a_mask_keeps_the_best_of_every_group_and_as_many_as_it_says(case):
    sizes, scores, ratio = case
    mask = choose(scores, sizes, ratio)
    kept = unpack(mask, sizes) if mask else np.ones(sum(sizes), dtype=bool)
    start = 0
    for size in sizes:
        own, mine = scores[start : start + size], kept[start : start + size]
        assert mine.sum() == kept_of(size, ratio)
        assert mine.all() or own[mine].min() >= own[~mine].max()
        start += size


@settings(deadline=None)
@given(scored(), st.floats(0, 1))
def test_a_larger_ratio_keeps_a_part_of_what_a_smaller_one_keeps(case, share):
    sizes, scores, ratio = case
    less, more = choose(scores, sizes, ratio * share), choose(scores, sizes, ratio)
    if less:
        assert not (unpack(more, sizes) & ~unpack(less, sizes)).any()


@pytest.mark.parametrize(
    ("mask", "what"),
    [
        (b"", "must have 2"),
        (b"\xff\xff\xff", "must have 2"),
        (b"\xff\xff", "beyond the 12"),
        (b"\x00\xf0", "none of the 8"),
        (b"\xff\x00", "none of the 4"),
    ],
)
def test_a_mask_of_another_model_is_refused(mask, what):
    with pytest.raises(ValueError, match=what):
        unpack(mask, [8, 4])


@pytest.mark.parametrize("size", [256, 1536, 11008])
def test_of_many_units_whole_sixteens_are_kept(size):
    """Products of ragged widths may depend on who shares a pass; heads are of sixteen or more columns each anyway."""
    for ratio in np.linspace(0, 0.9, 19):
        assert kept_of(size, ratio) % 16 == 0
        assert abs(kept_of(size, ratio) - (1 - ratio) * size) <= 8
    assert kept_of(size + 1, 0.3) == int(0.7 * (size + 1) + 0.5)


def test_a_ratio_that_keeps_nothing_is_refused():
    with pytest.raises(ValueError, match="keeps none of 4"):
        choose(np.ones(4), [4], 0.9)


def units(sizes, owners):
    groups, start = [], 0
    for place, size in enumerate(sizes):
        groups.append(Group(place // 2, "heads" if place % 2 == 0 else "channels", start, size))
        start += size
    return Units(tuple(groups), np.array(owners, dtype=np.int32))


@settings(deadline=None)
@given(st.data())
def test_what_is_gathered_and_scattered_is_where_it_was(data):
    """A pruned client's values go back to their places, and everything else stays zero."""
    sizes = data.draw(SIZES)
    owners = data.draw(st.lists(st.integers(-1, sum(sizes) - 1), min_size=1, max_size=60))
    ratio = data.draw(st.floats(0, largest_ratio(sizes)))
    of = units(sizes, owners)
    mask = choose(np.arange(sum(sizes), dtype=float), sizes, ratio)
    if not mask:
        return
    held, kept = of.held(mask), unpack(mask, sizes)
    assert held.places.tolist() == [place for place, unit in enumerate(owners) if unit < 0 or kept[unit]]
    theta = np.arange(1, len(owners) + 1, dtype=np.float32)
    whole = np.zeros_like(theta)
    whole[held.places] = theta[held.places]
    assert np.array_equal(whole != 0, np.isin(np.arange(len(owners)), held.places))
    assert np.array_equal(whole[held.places], theta[held.places])


def test_shares_add_up_to_one_in_each_group_that_was_measured():
    of = units([2, 3], [0])
    assert of.shares(np.array([1.0, 3.0, 0.0, 0.0, 0.0])).tolist() == [0.25, 0.75, 0, 0, 0]


@given(st.integers(1, 9), st.integers(0, 9), st.integers(1, 9), st.floats(0, 0.99), st.integers(1, 40))
def test_the_ratio_only_grows_and_holds_between_plans(start, ramp, every, target, number):
    table = Ramp(start, ramp, every)
    now, following = table.ratio(target, number), table.ratio(target, number + 1)
    assert 0 <= now <= following <= target
    assert (now == 0) if number < start else (table.planned(number) <= number < table.planned(number) + every)
    if table.planned(number) == table.planned(number + 1):
        assert now == following
    assert table.ratio(target, start + ramp + every) == target
