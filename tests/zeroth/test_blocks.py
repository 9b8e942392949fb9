"""Blocks: each place of the vector is in one of them, and each direction moves one."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedpeft.zeroth.blocks import BlockPool
from fedpeft.zeroth.fresh import FreshPool
from fedpeft.zeroth.hadamard import HadamardPool


@given(places=st.integers(8, 400), blocks=st.integers(1, 50), each=st.integers(1, 3))
def test_every_place_is_in_one_block(places, blocks, each):
    blocks = min(blocks, places // 8)
    pool = BlockPool(FreshPool(each, 3), blocks, places)
    moved = np.array([pool.direction(0, number, 0, places).values() != 0 for number in range(pool.size)])
    by_block = moved.reshape(each, blocks, places)
    assert (by_block == by_block[0]).all()
    assert (by_block[0].sum(axis=0) == 1).all()
    sizes = by_block[0].sum(axis=1)
    assert (np.diff([np.flatnonzero(block)[0] for block in by_block[0]]) > 0).all()
    assert sizes.max() - sizes.min() < 16


def test_a_direction_is_the_inner_one_at_the_block_s_own_places():
    inner = HadamardPool(16, 3)
    pool = BlockPool(inner, 4, 1000)  # blocks begin at 0, 248, 496 and 744
    assert pool.size == 64
    z = pool.direction(2, 4 * 11 + 2, 0, 1000).values()
    assert (z[496:744] == inner.direction(2, 11, 496, 248).values()).all()
    assert not z[:496].any()
    assert not z[744:].any()


def test_a_slice_beside_its_block_is_zero():
    direction = BlockPool(HadamardPool(16, 3), 4, 1000).direction(0, 3, 0, 37)
    moved = np.full(37, -0.0, dtype=np.float32)
    direction.add_to(moved, 1.0)
    assert np.signbit(moved).all()
    assert not direction.values().any()


@pytest.mark.parametrize("blocks", [0, 6])
def test_blocks_that_cannot_be(blocks):
    with pytest.raises(ValueError, match=f"blocks = {blocks} must be from 1 to 5: an eighth of 47 weights"):
        BlockPool(FreshPool(2, 3), blocks, 47)
