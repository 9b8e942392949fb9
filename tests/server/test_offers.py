"""Which arms are offered before anything is pruned, while the ramp grows and afterwards, and how they are played."""

import pytest

from fedpeft.pruning.ramp import Ramp
from fedpeft.scheduling import Arm, Grid
from fedpeft.server.offers import Offers, SchedulingSettings

GRID = Grid(ranks=(2, 8), ratios=(0.0, 0.25, 0.5), codecs=("int8",), steps=(4,))
MEMORY = {0.0: 400.0, 0.25: 300.0, 0.5: 200.0}
WHOLE_MB = (400.0,) * 6


def offers(start=2, ramp=0, grid=GRID):
    needs = tuple(MEMORY[arm.pruning] for arm in grid.arms)
    return Offers(SchedulingSettings(grid, needs, 8, whole_mb=WHOLE_MB[: len(grid.arms)]), Ramp(start, ramp, every=1))


def place(ratio, rank=8, grid=GRID):
    return grid.place(Arm(rank, ratio, "int8", 4))


def test_before_the_first_plan_arms_are_whole_and_offered_once():
    found = offers()
    assert found.of(0, 1) == (place(0.0, 2), place(0.0, 8))
    assert found.of(0, 2) == tuple(range(6))
    assert found.played(place(0.5), 1) == place(0.0)
    assert found.played(place(0.5), 2) == place(0.5)


@pytest.mark.parametrize(("memory", "early", "later"), [(500, 2, 6), (350, 0, 4), (200, 0, 2), (100, 0, 0)])
def test_what_fits_is_what_fits_in_that_round(memory, early, later):
    """A device that holds the pruned arm alone must not be given the whole model."""
    found = offers()
    assert (len(found.of(memory, 1)), len(found.of(memory, 2))) == (early, later)


def test_on_the_ramp_an_arm_is_played_as_another_or_as_none():
    """Ratios 0, 0.125, 0.25 in round 2, 0, 0.25, 0.5 from round 3."""
    found = offers(ramp=2)
    assert [found.played(place(ratio), 2) for ratio in (0.0, 0.25, 0.5)] == [place(0.0), None, place(0.25)]
    assert [found.played(place(ratio), 3) for ratio in (0.0, 0.25, 0.5)] == [place(own) for own in (0.0, 0.25, 0.5)]
    assert found.of(0, 2) == tuple(range(6)), "no two of them are the same then"
    assert found.needs(place(0.25), 2) == 400.0, "an eighth is pruned: at most as much as nothing"
    assert found.needs(place(0.5), 2) == 300.0
    assert found.of(300, 2) == (place(0.5, 2), place(0.5, 8))


def test_a_third_of_a_ratio_is_the_arm_that_it_is():
    """0.6 · 1/3 is not 0.2 in binary, nor is 0.1 · 3 0.3."""
    grid = Grid(ranks=(8,), ratios=(0.0, 0.1, 0.2, 0.4, 0.6), codecs=("int8",), steps=(4,))
    found = Offers(SchedulingSettings(grid, (500.0, 450.0, 400.0, 300.0, 200.0), 8), Ramp(2, 3, every=1))
    places = [found.played(place(0.6, grid=grid), number) for number in (2, 3, 4)]
    assert places == [place(ratio, grid=grid) for ratio in (0.2, 0.4, 0.6)]
    grid = Grid(ranks=(8,), ratios=(0.1, 0.3, 0.6), codecs=("int8",), steps=(4,))
    found = Offers(SchedulingSettings(grid, (450.0, 350.0, 200.0), 8, whole_mb=(500.0,) * 3), Ramp(2, 3, every=1))
    assert found.needs(place(0.3, grid=grid), 2) == 450.0


def test_a_grid_that_prunes_everybody_is_whole_before_it_is_pruned():
    grid = Grid(ranks=(8,), ratios=(0.25, 0.5), codecs=("int8",), steps=(4,))
    found = offers(grid=grid)
    assert found.of(0, 1) == (0, 1)
    assert found.played(0, 1) is None, "no arm of the grid trains the whole model"
    assert found.of(350, 1) == (), "needs the memory of the whole model"
    assert found.of(350, 2) == (0, 1)
    assert [found.whole(arm, 1) for arm in (0, 1)] == [True, True]
    assert [found.whole(arm, 2) for arm in (0, 1)] == [True, False], "as much of it as any arm trains"
