"""Which weights Sparse MeZO moves: the smallest of each tensor, the same on every machine."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedpeft.layouts import make_layout
from fedpeft.zeroth.fresh import FreshPool
from fedpeft.zeroth.hadamard import HadamardPool
from fedpeft.zeroth.sparse import SparsePool, smallest


def places(mask, count):
    return np.unpackbits(mask, count=count, bitorder="little").astype(bool)


def by_hand(theta, share):
    """Of one tensor: by magnitude, then by place."""
    if (np.abs(theta) == np.abs(theta[0])).all():
        return np.ones(len(theta), dtype=bool)
    order = sorted(range(len(theta)), key=lambda i: (abs(theta[i]), i))
    kept = np.zeros(len(theta), dtype=bool)
    kept[order[: math.ceil(share * len(theta))]] = True
    return kept


@given(
    sizes=st.lists(st.integers(1, 40), min_size=1, max_size=5),
    share=st.floats(0.01, 1.0),
    levels=st.integers(1, 6),
    seed=st.integers(0, 99),
)
def test_the_smallest_of_each_tensor_the_first_where_they_tie(sizes, share, levels, seed):
    layout = make_layout({f"{number}": (size,) for number, size in enumerate(sizes)})
    theta = np.random.default_rng(seed).integers(-levels, levels, layout.size).astype(np.float32)
    mask = places(smallest(theta, layout, share), layout.size)
    for tensor in layout.tensors:
        place = slice(tensor.offset, tensor.offset + tensor.size)
        assert (mask[place] == by_hand(theta[place], share)).all()


def test_where_magnitude_tells_nothing_all_move():
    layout = make_layout({"lora_A": (4, 5), "lora_B": (5, 4), "norm": (6,), "scalar": ()})
    theta = np.concatenate([np.linspace(-1, 2, 20), np.zeros(20), np.ones(6), [3.0]]).astype(np.float32)
    mask = places(smallest(theta, layout, 0.25), 47)
    assert mask[:20].sum() == 5
    assert np.abs(theta[:20][mask[:20]]).max() < np.abs(theta[:20][~mask[:20]]).min()
    assert mask[20:].all()


def test_bits_beyond_the_last_weight_are_0():
    assert smallest(np.arange(11, dtype=np.float32), make_layout({"a": (11,)}), 1.0).tolist() == [255, 7]


@pytest.mark.parametrize("inner", [HadamardPool(16, 3), FreshPool(16, 3)])
def test_many_weights_are_replayed_in_pieces(inner, monkeypatch):
    layout = make_layout({"a": (70_001,)})
    theta = np.sin(np.arange(70_001, dtype=np.float32))
    pool, a = SparsePool(inner, smallest(theta, layout, 0.4)), np.arange(16) - 5
    whole, pieces, unmasked = theta.copy(), theta.copy(), theta.copy()
    pool.combine(0, a, whole, 1e-3)
    monkeypatch.setattr("fedpeft.zeroth.sparse._PLACES", 4096)
    pool.combine(0, a, pieces, 1e-3)
    inner.combine(0, a, unmasked, 1e-3)
    assert (whole == pieces).all()
    assert (whole == np.where(places(pool.mask, 70_001), unmasked, theta)).all()
