"""Both ways to walk have the same bits, for every form of direction, also where a device makes the signs itself."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fedpeft.layouts import make_layout
from fedpeft.randomness.directions import packed
from fedpeft.registry import build
from fedpeft.training.zeroth import walk
from fedpeft.training.zeroth.walk import DeviceWalk, HostWalk, walk_of
from fedpeft.zeroth.blocks import BlockPool
from fedpeft.zeroth.direction import Signs
from fedpeft.zeroth.sparse import SparsePool, smallest

POOLS = ["hadamard", "independent", "fresh", "near-gaussian", "gaussian"]
FORMS = [*POOLS, "hadamard blocks", "fresh sparse", "hadamard sparse blocks", "near-gaussian sparse blocks"]


def pool_of(form, size, seed=6):
    name, *parts = form.split()
    pool = build("pool", name, {"size": 64, "seed": seed})
    if "sparse" in parts:
        theta = np.cos(np.arange(size, dtype=np.float32))
        pool = SparsePool(pool, smallest(theta, make_layout({"a": (size,)}), 0.3))
    return BlockPool(pool, 3, size) if "blocks" in parts else pool


def start(size):
    theta = torch.linspace(-1, 1, size)
    theta[::3] = -0.0
    return theta


def same(one, other):
    """Bits, of which −0 and 0 differ."""
    return torch.equal(one.view(torch.int32), other.cpu().view(torch.int32))


@pytest.mark.parametrize("made_there", [False, True])
@pytest.mark.parametrize("form", FORMS)
@settings(max_examples=15, deadline=None)
@given(
    size=st.integers(24, 3000),
    numbers=st.lists(st.integers(0, 63), min_size=1, max_size=3),
    scale=st.floats(-2, 2, width=32).filter(bool),
    piece=st.sampled_from([64, 1024, 1 << 20]),
)
def test_both_ways_have_the_same_bits(form, made_there, size, numbers, scale, piece):
    here, there, pool = start(size), start(size), pool_of(form, size)
    one, other = HostWalk(here), DeviceWalk(there, made_there=made_there)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(walk, "_PIECE", piece)
        for number in numbers:
            direction = pool.direction(1, number, 0, size)
            for multiple in (1, -2, 0.7):
                one.add(direction, multiple * scale)
                other.add(direction, multiple * scale)
    assert same(here, there)


@pytest.mark.parametrize("made_there", [False, True])
def test_directions_in_turn(made_there):
    """What is kept of one is not taken for another."""
    here, there, pool = start(900), start(900), pool_of("hadamard sparse blocks", 900)
    one, other = HostWalk(here), DeviceWalk(there, made_there=made_there)
    directions = [pool.direction(0, number, 0, 900) for number in (3, 9, 5)]
    for number in (0, 1, 0, 2, 1, 1, 0):
        one.add(directions[number], 0.3)
        other.add(directions[number], 0.3)
    assert same(here, there)


def test_only_the_last_direction_is_kept():
    """Another may lie where one lay that is gone."""
    here, there, pool = start(300), start(300), pool_of("hadamard sparse blocks", 300)
    one, other = HostWalk(here), DeviceWalk(there)
    for number in range(192):
        one.add(pool.direction(0, number, 0, 300), 0.1)
        other.add(pool.direction(0, number, 0, 300), 0.1)
    assert same(here, there)
    assert len(other._bits) == 2  # signs and mask


def test_signs_are_made_there_only_where_that_is_asked_for(monkeypatch):
    made = []
    own = walk.keystream_on
    monkeypatch.setattr(walk, "keystream_on", lambda *about: made.append(about) or own(*about))
    for made_there, wanted in ((None, 0), (False, 0), (True, 1)):
        made.clear()
        other, direction = DeviceWalk(start(100), made_there=made_there), pool_of("fresh", 100).direction(0, 3, 0, 100)
        for _ in range(3):
            other.add(direction, 0.1)
        assert len(made) == wanted
        assert (direction._bits is None) == (made_there is True)  # no work on the host


def test_a_stream_that_nobody_told_is_sent():
    here, there = start(77), start(77)
    direction = Signs(packed(bytes(32), 0, 77), 77)
    HostWalk(here).add(direction, 0.3)
    DeviceWalk(there, made_there=True).add(direction, 0.3)
    assert same(here, there)


def test_weights_on_the_cpu_are_moved_by_the_host():
    assert isinstance(walk_of(start(8)), HostWalk)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("made_there", [False, True, None])
def test_a_gpu_walks_to_the_same_bits(form, made_there):
    size = walk.MADE_THERE + 5_003 if made_there is None else 3_000_003
    here, there, pool = start(size), start(size).cuda(), pool_of(form, size)
    one, other = HostWalk(here), DeviceWalk(there, made_there=made_there)
    for number in (0, 7):
        direction = pool.direction(1, number, 0, size)
        for scale in (1e-3, -2e-3):
            one.add(direction, scale)
            other.add(direction, scale)
    assert same(here, there)
