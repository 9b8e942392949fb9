"""The phases of the round's benchmark are functions that there are: a refactoring must not break it unseen."""

import pytest

from fedpeft.registry import load
from simulations.benchmarks.round import PHASES


@pytest.mark.parametrize("place", [place for places in PHASES.values() for place in places])
def test_every_phase_is_there(place):
    module, _, path = place.partition(":")
    owner, _, method = path.partition(".")
    found = load("sink", f"{module}:{owner}")  # any kind: a class of a module, by its path
    assert callable(getattr(found, method) if method else found)
