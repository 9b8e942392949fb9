"""A cohort is cut into shares of about the same expected work, and nothing gets lost on the way."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from fedpeft.simulation.workers.shares import cut, expected_work
from fedpeft.training import TrainingJob
from fedpeft.types import ClientId, Plan

WORK = st.lists(st.floats(0, 1e6), max_size=40)


@given(work=WORK, workers=st.integers(1, 9))
def test_each_place_is_in_one_share_and_shares_are_in_order(work, workers):
    shares = cut(work, workers)
    assert sorted(place for share in shares for place in share) == list(range(len(work)))
    assert all(share == sorted(share) and share for share in shares)
    assert len(shares) <= workers


@given(work=WORK.filter(bool), workers=st.integers(1, 9))
def test_no_share_is_longer_than_a_fair_one_and_one_job(work, workers):
    loads = [sum(work[place] for place in share) for share in cut(work, workers)]
    assert max(loads) <= sum(work) / workers + max(work) + 1e-6


def test_many_short_jobs_stand_against_one_long_one():
    assert cut([1, 1, 1, 8, 1, 1, 1, 1, 1], 2) == [[3], [0, 1, 2, 4, 5, 6, 7, 8]]


class Texts(list):
    lengths = np.array([4, 8, 12])


def test_work_counts_steps_examples_and_tokens():
    plan = Plan("r", 1, 1, ClientId("a"), seed=0, steps=5, batch_size=2, learning_rate=0.1)
    start = np.zeros(3, dtype=np.float32)
    assert expected_work(TrainingJob(plan, start, [1, 2, 3])) == 5 * 2
    assert expected_work(TrainingJob(plan, start, [1])) == 5 * 1  # a batch is no larger than the data
    assert expected_work(TrainingJob(plan, start, Texts("abc"))) == 5 * 2 * 8
