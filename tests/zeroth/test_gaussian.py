"""The reference: the framework's own normal numbers."""

import subprocess
import sys

import numpy as np
import torch

from fedpeft.randomness import derive_seed
from fedpeft.zeroth.gaussian import GaussianPool


def test_its_numbers_are_the_framework_s():
    found = GaussianPool(4, 9).direction(1, 3, 0, 20_000).values()
    wanted = [
        torch.randn(1 << 14, generator=torch.Generator().manual_seed(derive_seed(9, "zeroth/gaussian", 1, 3, block)))
        for block in (0, 1)
    ]
    assert (found == torch.cat(wanted)[:20_000].numpy()).all()


def test_slices_across_the_ends_of_seeds():
    pool = GaussianPool(4, 9)
    whole = pool.direction(0, 0, 0, 50_000).values()
    for begin, count in ((16_376, 16), (8, 40_000), (16_384, 16_384), (49_992, 8)):
        assert (pool.direction(0, 0, begin, count).values() == whole[begin : begin + count]).all()


def test_neither_the_default_device_nor_the_default_dtype_counts():
    pool = GaussianPool(4, 9)
    plain = pool.direction(0, 2, 0, 100).values()
    torch.set_default_dtype(torch.float64)
    try:
        with torch.device("meta"):
            assert (pool.direction(0, 2, 0, 100).values() == plain).all()
    finally:
        torch.set_default_dtype(torch.float32)


def test_the_global_generator_is_left_alone():
    before = torch.random.get_rng_state()
    moved = np.zeros(100, dtype=np.float32)
    GaussianPool(4, 9).combine(0, np.array([1, 0, -3, 2]), moved, 1e-3)
    assert moved.all()
    assert torch.equal(torch.random.get_rng_state(), before)


def test_torch_is_imported_when_numbers_are_drawn():
    code = "import sys, fedpeft.zeroth.gaussian, fedpeft.zeroth.replica; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
