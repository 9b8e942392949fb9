"""The reward is what its equation says, and means much the same from round to round."""

import math

import pytest

from fedpeft.scheduling import Measured, Reference


def measured(seconds, gain):
    return Measured(seconds, gain)


def test_the_usual_client_gets_a_half():
    cohort = [measured(2.0, 0.1), measured(2.0, 0.1), measured(2.0, 0.1)]
    reference = Reference().after(cohort)
    assert reference == Reference(pytest.approx(0.1), 2.0)
    assert reference.reward(cohort[0]) == pytest.approx(0.5)


def test_slower_than_the_cohort_costs_and_faster_gains_nothing():
    cohort = [measured(1.0, 0.2), measured(2.0, 0.2), measured(8.0, 0.2)]
    reference = Reference().after(cohort)
    fast, usual, slow = (reference.reward(one) for one in cohort)
    assert fast == usual == pytest.approx(0.5)
    assert slow == pytest.approx((1 / 16) / (1 + 1 / 16))  # τ = 4
    assert reference.reward(cohort[2], slowness=0.0) == pytest.approx(0.5)
    assert reference.reward(cohort[2], slowness=1.0) == pytest.approx(0.25 / 1.25)


def test_more_gain_is_more_reward_and_a_loss_is_none():
    cohort = [measured(1.0, 0.1), measured(1.0, 0.3), measured(1.0, -0.2)]
    reference = Reference().after(cohort)
    rewards = [reference.reward(one) for one in cohort]
    assert rewards == [pytest.approx(1 / 3), pytest.approx(0.6), 0.0]  # S = 0.2


def test_a_missed_deadline_is_worth_nothing_and_is_no_part_of_what_is_usual():
    missed = Measured(None)
    cohort = [measured(1.0, 0.1), missed]
    reference = Reference().after(cohort)
    assert reference == Reference().after(cohort[:1])
    assert missed.told
    assert reference.reward(missed) == 0.0
    assert Reference().after([missed]) == Reference()


@pytest.mark.parametrize("gain", [None, math.nan, math.inf])
def test_a_reply_without_a_gain_teaches_nothing(gain):
    silent = Measured(1.0, gain)
    assert not silent.told
    assert Reference().after([silent]) == Reference()


def test_one_mad_client_does_not_move_what_is_usual():
    honest = [measured(1.0, 0.1), measured(1.0, 0.1), measured(1.0, 0.1)]
    mad = Measured(0.0, 2e6)
    reference = Reference().after([*honest, mad])
    assert reference.reward(honest[0]) == pytest.approx(0.5)
    assert reference.reward(mad) < 1.0


def test_what_is_usual_moves_half_of_the_way():
    reference = Reference().after([measured(2.0, 0.4)]).after([measured(4.0, 0.2)])
    assert reference.gain == pytest.approx(0.3)
    assert reference.seconds == pytest.approx(3.0)


def test_nothing_gained_by_anybody_is_no_division_by_zero():
    reference = Reference().after([measured(0.0, 0.0)])
    assert reference.reward(measured(0.0, 0.0)) == 0.0
    assert reference.relative(5.0) == 1.0


def test_rounding_errors_of_a_clock_do_not_decide():
    exact, off = measured(0.3, 0.1), measured(0.30000000000000004, 0.1)
    assert Reference().after([exact]) == Reference().after([off])
