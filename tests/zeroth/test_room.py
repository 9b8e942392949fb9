"""Room for whole models: the same arrays, wherever they lie."""

import numpy as np
import pytest

from fedpeft.errors import ModelError
from fedpeft.zeroth import room
from fedpeft.zeroth.hadamard import HadamardPool


@pytest.fixture
def small_limit(monkeypatch):
    monkeypatch.setattr(room, "LARGE", 100)


def test_small_models_lie_in_memory():
    assert room.room(99).base is None


def test_large_models_lie_in_a_file_without_a_name(small_limit):
    theta = np.linspace(-1, 1, 5000, dtype=np.float32)
    copy = room.kept(theta)
    assert isinstance(copy.base, np.memmap)
    assert type(copy) is np.ndarray
    assert (copy == theta).all()
    copy[:] = 0
    assert theta[0] == -1


def test_no_room(small_limit, monkeypatch):
    def full(file, offset, size):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(room.os, "posix_fallocate", full)
    with pytest.raises(ModelError, match=r"cannot be had in .*No space left on device") as caught:
        room.room(5000)
    assert "TMPDIR" in caught.value.remedy


def test_a_pool_moves_them_in_place(small_limit):
    pool, a = HadamardPool(64, 1), np.arange(64) - 30
    there, here = room.kept(np.zeros(5000, dtype=np.float32)), np.zeros(5000, dtype=np.float32)
    for weights in (there, here):
        pool.combine(0, a, weights, 1e-3)
    assert (there == here).all()
