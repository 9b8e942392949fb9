"""Two processes that serve one client in turn, as actors and Flower's processes do: each sees what the other kept."""

from __future__ import annotations

import numpy as np

from fedpeft.client import ClientStore


def test_what_another_process_kept_is_found_after_a_new_look(tmp_path):
    first, second = ClientStore(tmp_path, 4), ClientStore(tmp_path, 4)
    residual = np.arange(4, dtype=np.float32) + 1
    assert first.residual(1) is None, "and it remembers that there was none"
    second.keep_residual(1, residual, also=())
    assert first.residual(1) is None
    first.look_again()
    np.testing.assert_array_equal(first.residual(1), residual)
