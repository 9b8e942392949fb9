"""What every scheduler must keep. To put one under this contract, add a line to `SCHEDULERS`."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedpeft.registry import BUILTIN, build
from fedpeft.scheduling import ClassTimes, Grid, Outcome, Request, Setting
from fedpeft.types import ClientId

SCHEDULERS = {
    "fixed": {"rank": 4, "codec": "int8", "steps": 8},
    "random": {},
    "ucb": {},
    "thompson": {},
    "tree": {},
    "exp3": {},
    "oracle": {},
    "pacing": {},
}
LEARNING = ["ucb", "thompson", "tree", "exp3"]
GRID = Grid(ranks=(2, 4, 8), ratios=(0.0,), codecs=("int4", "int8"), steps=(4, 8))
K = len(GRID.arms)
every_scheduler = pytest.mark.parametrize("name", SCHEDULERS)
every_bandit = pytest.mark.parametrize("name", LEARNING)


def scheduler(name, grid=GRID, **params):
    found = build("scheduler", name, {**SCHEDULERS[name], **params})
    seconds = tuple(1.0 + place for place in range(len(grid.arms)))
    found.begin(Setting(grid, times={"phone": ClassTimes(3, seconds), "tablet": ClassTimes(5, seconds[::-1])}))
    return found


def request(number, client="c00", device="phone", seed=5, offered=None, out=None):
    places = tuple(range(K)) if offered is None else offered
    return Request(ClientId(client), device, number, seed * 1000 + number, places, out or {})


def outcome(place, reward, device="phone", probability=0.5, client="c00"):
    seconds = 1.0 + (place if device == "phone" else K - 1 - place)
    return Outcome(ClientId(client), device, place, probability, reward, seconds, reward)


def played(found, rounds, seed=5, begin=1):
    """Choices of rounds with two devices of two classes, and rewards that follow from place and class."""
    places = []
    for number in range(begin, begin + rounds):
        asked = [request(number, f"c{k}", device, seed + k) for k, device in enumerate(("phone", "tablet"))]
        choices = [found.choose(one) for one in asked]
        places += [choice.place for choice in choices]
        found.observe(
            [
                outcome(choice.place, ((choice.place * 7 + number) % K) / K, one.device, choice.probability, one.client)
                for one, choice in zip(asked, choices, strict=True)
            ]
        )
    return places


def test_every_scheduler_is_on_the_list():
    assert set(SCHEDULERS) == set(BUILTIN["scheduler"])


@every_scheduler
def test_the_same_seed_makes_the_same_choices_and_choosing_changes_nothing(name):
    assert played(scheduler(name), 12) == played(scheduler(name), 12)
    found = scheduler(name)
    played(found, 6)
    before = json.dumps(found.state())
    first = found.choose(request(9))
    assert all(found.choose(request(9)) == first for _ in range(3))
    assert json.dumps(found.state()) == before


@every_scheduler
@pytest.mark.parametrize("rounds", [0, 1, 9])
def test_restored_it_goes_on_as_it_would_have(name, rounds):
    whole, parts = scheduler(name), scheduler(name)
    played(whole, rounds)
    played(parts, rounds)
    again = scheduler(name)
    again.restore(json.loads(json.dumps(parts.state(), allow_nan=False)))
    assert played(again, 10, begin=20) == played(whole, 10, begin=20)


@every_scheduler
@given(data=st.data())
@settings(max_examples=40, deadline=None)
def test_only_what_is_offered_is_chosen(name, data):
    found = scheduler(name)
    played(found, data.draw(st.integers(0, 5)))
    for number in range(1, 4):
        offered = tuple(sorted(data.draw(st.sets(st.integers(0, K - 1), min_size=1))))
        out = data.draw(st.dictionaries(st.integers(0, K - 1), st.integers(1, 3), max_size=3))
        device = data.draw(st.sampled_from(["phone", "tablet", "never seen"]))
        choice = found.choose(
            request(number, device=device, offered=offered, out=out, seed=data.draw(st.integers(0, 99)))
        )
        assert choice.place in offered
        assert 0 < choice.probability <= 1
        assert choice.why
        found.observe([outcome(choice.place, data.draw(st.floats(0, 1)), device, choice.probability)])


@every_scheduler
def test_nothing_observed_is_nothing_learned(name):
    found = scheduler(name)
    played(found, 3)
    before = json.dumps(found.state())
    found.observe([])
    assert json.dumps(found.state()) == before


@every_scheduler
def test_a_reply_that_nobody_could_judge_has_seconds_and_no_reward(name):
    found = scheduler(name)
    played(found, 2)
    found.observe([Outcome(ClientId("c0"), "phone", 3, 1.0, None, 4.0, None, tuple(range(K)))])
    if name in LEARNING:
        again = scheduler(name)
        played(again, 2)
        assert json.dumps(found.state()) == json.dumps(again.state())
    assert found.choose(request(9)).place in range(K)


def share_of_best(name, best, rounds=150, seed=1, switch=None, cohort=4, **params):
    """Share of the last quarter's choices that took the best arm: reward 0.7 ± 0.1 there, else 0.35 ± 0.1.

    With `switch` another arm is the best in that quarter.
    """
    noise = np.random.default_rng(seed)
    found, hits, total = scheduler(name, **params), 0, 0
    for number in range(1, rounds + 1):
        if switch is not None and number == rounds * 3 // 4:
            best = switch
        out, outcomes = {}, []
        for k in range(cohort):
            choice = found.choose(request(number, f"c{k}", seed=seed * 100 + k, out=out))
            out[choice.place] = out.get(choice.place, 0) + 1
            reward = float(np.clip((0.7 if choice.place == best else 0.35) + 0.1 * noise.standard_normal(), 0, 1))
            outcomes.append(outcome(choice.place, reward, probability=choice.probability, client=f"c{k}"))
            if number > rounds * 3 // 4:
                hits, total = hits + (choice.place == best), total + 1
        found.observe(outcomes)
    return hits / total


@every_bandit
@pytest.mark.parametrize("best", [0, 7])
def test_a_bandit_finds_the_best_arm(name, best):
    chance = 1 / K
    found = np.mean([share_of_best(name, best, seed=seed) for seed in (1, 2, 3)])
    assert found > (4 if name == "exp3" else 6) * chance, found
    assert np.mean([share_of_best("random", best, seed=seed) for seed in (1, 2, 3)]) < 2 * chance


@pytest.mark.parametrize("name", ["ucb", "thompson", "tree"])
def test_one_that_forgets_follows_a_best_arm_that_changes(name):
    forgets, never = (
        np.mean([share_of_best(name, 2, rounds=240, switch=9, seed=seed, discount=discount) for seed in (1, 2, 3)])
        for discount in (0.97, 1.0)
    )
    assert forgets > 3 / K
    assert forgets > never + 0.1, (forgets, never)


@every_bandit
def test_classes_learn_each_for_itself(name):
    """One class is rewarded for the first arm, the other for the last."""
    found, hits = scheduler(name), {"phone": 0, "tablet": 0}
    for number in range(1, 301):
        outcomes = []
        for device, good in (("phone", 0), ("tablet", K - 1)):
            choice = found.choose(request(number, device, device))
            hits[device] += choice.place == good
            outcomes.append(outcome(choice.place, 0.9 * (choice.place == good), device, choice.probability, device))
        found.observe(outcomes)
    assert min(hits.values()) > 2 * 300 / K, hits


@pytest.mark.parametrize("name", ["ucb", "tree"])
def test_a_cohort_is_spread_over_arms(name):
    """Asked at once, like devices do not all get one arm."""
    found, out = scheduler(name), {}
    for k in range(6):
        place = found.choose(request(1, f"c{k}", out=dict(out), seed=k)).place
        out[place] = out.get(place, 0) + 1
    assert len(out) >= 3


@every_scheduler
def test_a_device_of_an_unknown_class_is_served(name):
    found = scheduler(name)
    assert found.choose(replace(request(1), device="new")).place in range(K)
