"""Arms by place, and the schedulers that have one for everybody."""

import doctest
import importlib
import math
from dataclasses import replace
from itertools import product

import pytest

from fedpeft.errors import ConfigError
from fedpeft.scheduling import Arm, ClassTimes, Grid, Request, Setting
from fedpeft.scheduling.fixed import Fixed
from fedpeft.scheduling.oracle import Oracle
from fedpeft.types import ALL_COMPONENTS, ClientId

GRID = Grid(ranks=(2, 8), ratios=(0.0, 0.5), codecs=("int4", "int8"), steps=(4, 16))


def request(device="phone", offered=None):
    return Request(ClientId("c00"), device, 1, 7, offered or tuple(range(len(GRID.arms))))


def arm(scheduler, device="phone", offered=None):
    return GRID.arms[scheduler.choose(request(device, offered)).place]


@pytest.mark.parametrize("module", ["arms", "contract", "fixed", "tree"])
def test_the_examples_run(module):
    found = doctest.testmod(importlib.import_module(f"fedpeft.scheduling.{module}"))
    assert found.failed == 0
    assert found.attempted > 0


def test_places_and_arms_are_one_to_one():
    assert [GRID.place(one) for one in GRID.arms] == list(range(16))
    assert GRID.arms[-1] == Arm(8, 0.5, "int8", 16)
    assert len(set(GRID.coordinates)) == 16


def test_an_arm_is_told_in_words():
    assert str(Arm(8, 0.5, "int8", 1)) == "rank 8, pruned 0.5, int8, 1 step"
    assert str(Arm(ALL_COMPONENTS, 0.0, "fp16", 4)) == "fp16, 4 steps"


def test_fixed_is_one_arm_for_all_or_one_for_each_class():
    scheduler = Fixed(8, 0.5, "int8", 16, by_class={"phone": {"rank": 2, "steps": 4}})
    scheduler.begin(Setting(GRID))
    assert arm(scheduler, "tablet") == Arm(8, 0.5, "int8", 16)
    assert arm(scheduler, "phone") == Arm(2, 0.5, "int8", 4)


def test_fixed_takes_the_nearest_where_its_arm_does_not_fit():
    scheduler = Fixed(8, 0.5, "int8", 16)
    scheduler.begin(Setting(GRID))
    small = tuple(place for place, one in enumerate(GRID.arms) if one.rank == 2)
    assert arm(scheduler, offered=small) == Arm(2, 0.5, "int8", 16)


@pytest.mark.parametrize(
    ("params", "part"),
    [
        ({"rank": 8, "pruning": 0.0, "codec": "int8"}, "steps is not told"),
        ({"rank": 4, "pruning": 0.0, "codec": "int8", "steps": 4}, "rank = 4 is not in scheduler.arms.rank"),
        ({"rank": 2, "pruning": 0.0, "codec": "int8", "steps": 4, "by_class": {"x": {"codec": "z"}}}, "codec = 'z'"),
    ],
)
def test_fixed_refuses_what_the_grid_does_not_have(params, part):
    with pytest.raises(ValueError, match=part):
        Fixed(**params).begin(Setting(GRID))


def test_fixed_knows_only_four_coordinates():
    with pytest.raises(ValueError, match="colour"):
        Fixed(2, by_class={"x": {"colour": 1}})


def test_a_class_of_devices_that_there_is_not_is_refused_with_the_nearest():
    scheduler = Fixed(by_class={"phone": {"rank": 2}, "tabelt": {"rank": 8}})
    scheduler.check_classes(["phone", "tabelt"])
    with pytest.raises(ConfigError, match='"tabelt" is no class of devices') as caught:
        scheduler.check_classes(["phone", "tablet"])
    assert (caught.value.allowed, caught.value.remedy) == ("phone, tablet", 'did you mean "tablet"?')


def times(per_step, fixed=1.0):
    return tuple(fixed + per_step * one.steps for one in GRID.arms)


FLEET = {
    "fast": ClassTimes(1, times(0.01)),
    "usual": ClassTimes(5, times(0.1)),
    "slow": ClassTimes(1, times(1.0)),
}


def test_the_oracle_lets_others_work_as_long_as_the_slowest_class_takes():
    scheduler = Oracle(rank_exponent=0.0, pruning_exponent=1.0)
    scheduler.begin(Setting(GRID, times=FLEET))
    assert arm(scheduler, "fast") == arm(scheduler, "usual") == Arm(2, 0.0, "int4", 16)
    assert arm(scheduler, "slow").steps == 4
    assert arm(scheduler, "unheard of") == GRID.arms[0]


def test_the_oracle_finds_the_best_of_all_combinations():
    """Against a search through every arm of every class."""
    scheduler = Oracle(steps_exponent=0.7, rank_exponent=0.3)
    scheduler.begin(Setting(GRID, times=FLEET))

    def rate(places):
        pairs = list(zip(FLEET.values(), places, strict=True))
        gained = sum(own.clients * scheduler.gains[place] for own, place in pairs)
        return gained / max(own.seconds[place] for own, place in pairs)

    best = max(map(rate, product(range(len(GRID.arms)), repeat=3)))
    assert rate([scheduler.choose(request(device)).place for device in FLEET]) == pytest.approx(best)
    factor, place = scheduler.advantage()
    fixed = [rate([place] * 3) for place in range(len(GRID.arms))]
    assert fixed[place] == pytest.approx(max(fixed))
    assert factor == pytest.approx(best / max(fixed))
    assert factor > 1.05


def rates(scheduler, times, deadline=math.inf):
    """What every allowed combination of arms gains in a second, by the arms of each class."""
    found = {}
    for places in product(*(own.fits for own in times.values())):
        pairs = list(zip(times.values(), places, strict=True))
        seconds = [own.seconds[place] for own, place in pairs]
        gained = sum(
            own.clients * scheduler.gains[place]
            for (own, place), took in zip(pairs, seconds, strict=True)
            if took <= deadline
        )
        found[places] = gained / min(max(seconds), deadline)
    return found


SMALL = tuple(place for place, one in enumerate(GRID.arms) if one.rank == 2 and one.pruning)
EVERY = tuple(range(len(GRID.arms)))


@pytest.mark.parametrize("deadline", [None, 6.0, 3.5])
def test_the_oracle_plans_with_the_arms_that_fit_each_class_and_for_the_deadline(deadline):
    fleet = {"slow": ClassTimes(3, times(0.2), SMALL), "fast": ClassTimes(2, times(0.1), EVERY)}
    scheduler = Oracle()
    scheduler.begin(Setting(GRID, times=fleet, deadline_s=deadline))
    known = rates(scheduler, fleet, deadline or math.inf)
    own = tuple(scheduler.choose(request(device, fleet[device].fits)).place for device in fleet)
    assert known[own] == pytest.approx(max(known.values()))
    blind = Oracle()
    blind.begin(Setting(GRID, times={name: replace(one, fits=None) for name, one in fleet.items()}))
    unplanned = tuple(blind.choose(request(device, fleet[device].fits)).place for device in fleet)
    assert known[unplanned] < 0.95 * known[own], "what fits matters here"
    if deadline is not None:
        assert scheduler.limit <= deadline
    factor, _ = scheduler.advantage()
    assert factor >= 1.0


def test_a_class_that_no_arm_fits_is_left_out_of_the_oracles_plan():
    scheduler = Oracle()
    scheduler.begin(Setting(GRID, times={"none": ClassTimes(9, times(9.0), ()), "all": ClassTimes(1, times(0.2))}))
    assert scheduler.advantage()[0] == pytest.approx(1.0)
    nobody = Oracle()
    nobody.begin(Setting(GRID, times={"none": ClassTimes(9, times(9.0), ())}))
    assert nobody.advantage()[0] == 0.0


def test_where_nobody_waits_each_class_does_what_is_best_for_itself():
    scheduler = Oracle(steps_exponent=0.5, rank_exponent=0.1)
    scheduler.begin(Setting(GRID, synchronous=False, times=FLEET))
    assert [arm(scheduler, device).steps for device in FLEET] == [16, 16, 4]

    def rate(places):
        pairs = zip(FLEET.values(), places, strict=True)
        return sum(own.clients * scheduler.gains[place] / own.seconds[place] for own, place in pairs)

    factor, place = scheduler.advantage()
    fixed = [rate([place] * 3) for place in range(len(GRID.arms))]
    assert place == fixed.index(max(fixed))
    assert factor == pytest.approx(rate([GRID.arms.index(arm(scheduler, device)) for device in FLEET]) / max(fixed))


def test_devices_that_are_alike_leave_nothing_to_choose():
    scheduler = Oracle()
    scheduler.begin(Setting(GRID, times={name: ClassTimes(3, times(0.2)) for name in "ab"}))
    assert scheduler.advantage()[0] == pytest.approx(1.0)


def test_the_oracle_needs_times():
    with pytest.raises(ValueError, match="simulated fleet"):
        Oracle().begin(Setting(GRID))
