"""The examples in the docstrings give what they say."""

import doctest

import numpy as np
import pytest

from fedpeft.pruning import cost, mask, ramp, units
from fedpeft.pruning.importance import contract


@pytest.mark.parametrize("module", [contract, cost, mask, ramp, units], ids=lambda module: module.__name__)
def test_they_run(module):
    failed, attempted = doctest.testmod(module, extraglobs={"np": np})
    assert failed == 0
    assert attempted > 0
