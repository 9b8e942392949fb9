"""The two models of `pacing` find what replies were made by, and its rounds are planned by them."""

import json
from itertools import product

import numpy as np
import pytest

from fedpeft.scheduling import Arm, ClassTimes, Grid, Load, Outcome, Request, Setting
from fedpeft.scheduling.oracle import Oracle
from fedpeft.scheduling.pace_gains import PaceGains
from fedpeft.scheduling.pace_times import PaceTimes
from fedpeft.scheduling.pacing import Pacing
from fedpeft.types import ClientId

GRID = Grid(ranks=(2, 8), ratios=(0.0, 0.5), codecs=("int8",), steps=(2, 4, 8))
LOADS = tuple(Load(0.04 * arm.rank * (1 - arm.pruning), arm.steps * (1 - arm.pruning)) for arm in GRID.arms)
CLASSES = {"slow": (0.5, 4.0, 0.3), "usual": (0.2, 1.0, 0.1), "fast": (0.1, 0.3, 0.05)}  # w
DEVICES = {"slow": 6, "usual": 8, "fast": 2}  # of a cohort

EVERY = {device: list(range(12)) for device in CLASSES}


def seconds_of(device):
    return np.column_stack([np.ones(len(LOADS)), LOADS]) @ np.array(CLASSES[device])


TRUE_GAIN = np.array([arm.steps**0.9 * arm.rank**0.35 * (1 - arm.pruning) ** 1.3 for arm in GRID.arms])


def learned_times(rounds, places, noise=0.1, seed=0):
    draw, times = np.random.default_rng(seed), PaceTimes(np.array(LOADS), 0.99)
    for _ in range(rounds):
        for device, count in DEVICES.items():
            for k in range(count):
                place = int(draw.choice(places[device]))
                took = seconds_of(device)[place] * np.exp(noise * draw.standard_normal())
                times.add(f"{device}{k}", device, place, float(took))
        times.refit()
    return times


def test_times_of_all_arms_are_known_from_a_few():
    """Replies to four of twelve arms, eight to each, tell the other eight."""
    places = {device: [0, 5, 7, 11] for device in CLASSES}
    times = learned_times(8, places, noise=0.02)
    for device in CLASSES:
        off = np.abs(times.of(device) / seconds_of(device) - 1.0)
        assert off.mean() < 0.12, off
        assert off.max() < 0.25, off


def test_a_class_of_which_little_is_known_is_a_usual_one_that_is_slower():
    times = learned_times(6, EVERY, noise=0.02)
    times.add("new0", "new", 4, 3.0 * seconds_of("usual")[4])
    times.refit()
    found = times.of("new") / seconds_of("usual")
    assert 1.5 < found.min() < found.max() < 5
    assert times.of("never heard of") is None


def test_a_slow_client_is_known_by_its_own_replies():
    times = learned_times(6, EVERY, noise=0.02)
    for _ in range(8):
        times.add("usual-lame", "usual", 3, 2.0 * float(times.of("usual")[3]))
    assert (times.of("usual", "usual-lame") / times.of("usual")).max() == pytest.approx(2**0.8, rel=0.05)
    assert (times.of("usual", "usual0") / times.of("usual")).max() == pytest.approx(1.0, abs=0.05)


def test_one_absurd_reply_changes_little():
    times = learned_times(8, EVERY, noise=0.02)
    before = times.of("usual")
    times.add("usual1", "usual", 3, 1e9)
    times.add("usual2", "usual", 3, 0.0)
    times.refit()
    assert times.of("usual") == pytest.approx(before, rel=0.5)
    assert (times.of("usual") >= 0).all()


def test_gains_are_found_under_noise_as_large_as_they_are():
    draw, gains = np.random.default_rng(1), PaceGains(GRID, 0.99)
    first = gains.deviation.copy()
    for number in range(30):
        places = draw.integers(12, size=16)
        shrinks = 0.95**number
        y = shrinks * (TRUE_GAIN[places] + TRUE_GAIN.mean() * draw.standard_normal(16))
        gains.add([int(place) for place in places], [float(value) for value in y])
    found, true = gains.mean / gains.mean.mean(), TRUE_GAIN / TRUE_GAIN.mean()
    assert np.abs(found - true).mean() < 0.25, (found, true)
    assert (gains.deviation < 0.8 * first).all()


@pytest.mark.parametrize("lie", [-20.0, 20.0, 1e6])
def test_one_liar_in_each_commit_moves_gains_as_one_of_many(lie):
    """15 honest replies and one of so many times the usual gain, of one arm: nearly half of its looks are lies."""
    draw, honest, lied_to = np.random.default_rng(2), PaceGains(GRID, 0.99), PaceGains(GRID, 0.99)
    for _ in range(30):
        places = [int(place) for place in draw.integers(12, size=15)]
        y = [float(TRUE_GAIN[place] + TRUE_GAIN.mean() * draw.standard_normal()) for place in places]
        honest.add(places, y)
        lied_to.add([*places, 5], [*y, lie * float(TRUE_GAIN[5])])
    alike = [place for place in range(12) if GRID.arms[place].rank == 8]
    order = np.argsort(honest.mean[alike])
    assert (np.argsort(lied_to.mean[alike]) == order).all()
    assert lied_to.mean[alike] == pytest.approx(honest.mean[alike], rel=0.5)


def test_a_commit_that_went_backwards_breaks_nothing():
    gains = PaceGains(GRID, 0.99)
    gains.add([0, 1], [-5.0, -3.0])
    gains.add([0, 1], [0.0, 0.0])
    assert np.array_equal(gains.mean, gains.guess)
    gains.add([3, 9], [1e12, 1.0])
    assert np.isfinite(gains.mean).all()
    json.dumps(gains.state(), allow_nan=False)


def rate(places):
    """What a round of these arms, by class, gains in a second."""
    gained = sum(DEVICES[device] * TRUE_GAIN[place] for device, place in places.items())
    return gained / max(seconds_of(device)[place] for device, place in places.items())


@pytest.mark.parametrize("seed", range(3))
def test_after_a_few_rounds_it_plans_nearly_as_well_as_who_knows_everything(seed):
    draw, found = np.random.default_rng(seed), Pacing(random=0.1)
    found.begin(Setting(GRID, loads=LOADS))
    for number in range(1, 16):
        outcomes = []
        for device, count in DEVICES.items():
            for k in range(count):
                client = ClientId(f"{device}{k}")
                choice = found.choose(Request(client, device, number, int(draw.integers(2**60)), tuple(range(12))))
                took = seconds_of(device)[choice.place] * np.exp(0.1 * draw.standard_normal())
                gain = TRUE_GAIN[choice.place] + 0.8 * TRUE_GAIN.mean() * draw.standard_normal()
                outcomes.append(
                    Outcome(client, device, choice.place, choice.probability, 0.5, float(took), float(gain))
                )
        found.observe(outcomes)
    sure = Pacing(exploration=0.0, random=0.0)
    sure.begin(Setting(GRID, loads=LOADS))
    sure.restore(json.loads(json.dumps(found.state())))
    places = {
        device: sure.choose(Request(ClientId("new"), device, 99, 1, tuple(range(12)))).place for device in CLASSES
    }
    best = Oracle(steps_exponent=0.9, rank_exponent=0.35, pruning_exponent=1.3)
    own = {device: ClassTimes(DEVICES[device], tuple(seconds_of(device))) for device in CLASSES}
    best.begin(Setting(GRID, times=own))
    most = rate(
        {device: best.choose(Request(ClientId("x"), device, 1, 1, tuple(range(12)))).place for device in CLASSES}
    )
    fixed = max(rate(dict.fromkeys(CLASSES, place)) for place in range(12))
    assert rate(places) > 0.75 * most, (places, most)
    assert rate(places) > fixed, (places, fixed)


def test_a_class_nobody_knows_begins_with_arms_that_are_light_in_bytes_and_in_steps():
    found = Pacing()
    found.begin(Setting(GRID, loads=LOADS))
    bytes_sent, steps = np.array(LOADS).T
    for offered in (tuple(range(12)), tuple(k for k, arm in enumerate(GRID.arms) if not arm.pruning)):
        choices = [found.choose(Request(ClientId("new"), "slow", 1, n, offered)) for n in range(200)]
        places = {choice.place for choice in choices}
        assert len(places) == len(offered) // 2
        assert {choice.probability for choice in choices} == {1 / len(places)}
        share = np.maximum(bytes_sent / max(bytes_sent[list(offered)]), steps / max(steps[list(offered)]))
        assert max(share[list(places)]) <= min(share[list(set(offered) - places)])
    lone = {found.choose(Request(ClientId("new"), "slow", 1, n, (11,))).place for n in range(5)}
    assert lone == {11}


def test_exploring_stays_in_time():
    found = Pacing(random=1.0)
    found.begin(Setting(GRID, loads=LOADS))
    found.times = learned_times(8, EVERY, noise=0.0)
    found._replies = {device: float(count) for device, count in DEVICES.items()}
    found._cohort = 16.0
    found._plan()
    chosen = {found.choose(Request(ClientId("new"), "slow", n, n, tuple(range(12)))).place for n in range(200)}
    seconds = found.times.of("slow")
    assert len(chosen) > 1
    assert max(seconds[place] for place in chosen) <= found._limit < seconds.max()


def test_what_is_not_known_of_gains_tempts_no_whole_round():
    """An optimist tries other arms, in rounds that are as long as without."""
    lengths, picks = set(), {}
    for exploration in (0.0, 5.0):
        found = begun(Setting(GRID, loads=LOADS), exploration=exploration)
        found.times = learned_times(8, EVERY, noise=0.0)
        long = GRID.place(Arm(8, 0.0, "int8", 8))
        seconds = {device: seconds_of(device) for device in CLASSES}
        found.observe([reply("fast", long, float(seconds["fast"][long]), k) for k in range(6)])
        found.observe([reply(device, 0, float(seconds[device][0])) for device in ("slow", "usual")])
        lengths.add(found._limit)
        picks[exploration] = {device: chosen(found, device) for device in DEVICES}
    assert len(lengths) == 1
    assert picks[5.0] != picks[0.0]
    for device, place in picks[5.0].items():
        taken = found.times.of(device)
        assert taken[place] <= max(found._limit, taken.min())


def test_where_nobody_waits_each_client_does_what_is_best_in_its_own_time():
    found = Pacing(exploration=0.0, random=0.0)
    found.begin(Setting(GRID, synchronous=False, loads=LOADS))
    found.times = learned_times(8, EVERY, noise=0.0)
    for device in CLASSES:
        place = found.choose(Request(ClientId("new"), device, 1, 1, tuple(range(12)))).place
        worth = found.gains.mean / found.times.of(device)
        assert worth[place] == pytest.approx(worth.max())


def begun(setting, **params):
    found = Pacing(**{"exploration": 0.0, "random": 0.0, **params})
    found.begin(setting)
    return found


def reply(device, place, seconds, number=0, offered=()):
    gain = None if seconds is None else float(TRUE_GAIN[place])
    reward = 0.0 if seconds is None else 0.5
    return Outcome(ClientId(f"{device}{number}"), device, place, 1.0, reward, seconds, gain, offered)


def chosen(found, device, offered=tuple(range(12))):
    return found.choose(Request(ClientId("new"), device, 9, 9, offered)).place


def test_an_arm_that_misses_the_deadline_is_given_up_and_said_nothing_bad_of():
    """Arms of 2 and 8 steps take the slow class 3 s and 9 s and the fast one a second; the deadline is 6 s."""
    found = begun(Setting(GRID, loads=LOADS, deadline_s=6.0))
    short, long = (GRID.place(Arm(8, 0.0, "int8", steps)) for steps in (2, 8))
    for number in range(4):
        first = [reply("slow", short, 3.0, k) for k in range(2)] + [reply("slow", long, None, k) for k in range(2, 4)]
        found.observe([*first, *(reply("fast", place, 1.0, number) for place in (short, long))])
    assert found.times.of("slow")[long] > 6.0
    assert found._limit <= 6.0
    assert chosen(found, "slow") != long
    assert GRID.arms[chosen(found, "fast")].steps == 8
    before = begun(Setting(GRID, loads=LOADS, deadline_s=6.0))
    for number in range(4):
        before.observe([reply("fast", place, 1.0, number) for place in (short, long)])
    assert found.gains.mean[long] / found.gains.mean[short] == pytest.approx(
        before.gains.mean[long] / before.gains.mean[short], rel=0.1
    )


def test_where_every_arm_misses_the_fastest_is_tried():
    found = begun(Setting(GRID, loads=LOADS, deadline_s=1.0))
    found.observe([reply("slow", place, None) for place in range(12)])
    seconds = found.times.of("slow")
    assert (seconds > 1.0).all()
    assert chosen(found, "slow") == int(seconds.argmin())


def learned(setting, fits):
    """Told of every arm of every class without noise, and what fits."""
    found = begun(setting)
    for _ in range(20):
        for device, count in DEVICES.items():
            found.observe(
                [
                    reply(device, place, float(seconds_of(device)[place]), k, fits[device])
                    for k, place in enumerate(fits[device][: 2 * count])
                ]
            )
    return found


@pytest.mark.parametrize("steps", [2, 8])
def test_the_length_of_a_round_is_planned_with_the_arms_that_fit_each_class(steps):
    """Most devices have few arms: what would be the best length with all of them is not."""
    few = tuple(place for place, arm in enumerate(GRID.arms) if arm.steps == steps)
    fits = {"slow": tuple(range(12)), "usual": few, "fast": tuple(range(12))}
    found = learned(Setting(GRID, loads=LOADS), fits)
    seconds = {device: found.times.of(device) for device in DEVICES}
    bound = found.gains.mean

    def planned_rate(places):
        gained = sum(found._replies[device] * bound[place] for device, place in places.items())
        return gained / max(seconds[device][place] for device, place in places.items())

    best = max(
        planned_rate(dict(zip(DEVICES, places, strict=True))) for places in product(*(fits[own] for own in DEVICES))
    )
    own = {device: chosen(found, device, fits[device]) for device in DEVICES}
    assert planned_rate(own) == pytest.approx(best, rel=0.03)


@pytest.mark.parametrize("start", [1, 2, 3])
def test_it_goes_on_to_the_last_bit_as_it_would_have_whatever_class_was_heard_of_first(start):
    """A sum of floats depends on its order."""
    whole = begun(Setting(GRID, loads=LOADS), random=0.1)
    draw = np.random.default_rng(start)

    def commit(of, seed):
        own = np.random.default_rng(seed)
        outcomes = []
        for device in ("usual", "slow", "fast"):  # not in the order of their names
            for k in range(DEVICES[device]):
                place = int(own.integers(12))
                took = float(seconds_of(device)[place] * np.exp(0.3 * own.standard_normal()))
                outcomes.append(reply(device, place, took, k))
        of.observe(outcomes)

    for seed in draw.integers(2**32, size=5):
        commit(whole, seed)
    again = begun(Setting(GRID, loads=LOADS), random=0.1)
    again.restore(json.loads(json.dumps(whole.state())))
    for seed in draw.integers(2**32, size=5):
        commit(whole, seed)
        commit(again, seed)
        assert json.dumps(again.state()) == json.dumps(whole.state())
        assert again._limit == whole._limit
        for device in DEVICES:
            assert (again.times.of(device) == whole.times.of(device)).all()


def test_a_guess_of_nothing_takes_all_arms_for_alike():
    found = begun(Setting(GRID, loads=LOADS), steps_exponent=0, rank_exponent=0, pruning_exponent=0)
    assert np.ptp(found.gains.mean) == 0.0
    steep = begun(Setting(GRID, loads=LOADS), steps_exponent=1, rank_exponent=0, pruning_exponent=0)
    assert steep.gains.mean[2] == pytest.approx(4 * steep.gains.mean[0])


@pytest.mark.parametrize(
    "params", [{"steps_exponent": -1}, {"random": 1.5}, {"random": -0.1}, {"exploration": -1}, {"discount": 0}]
)
def test_parameters_out_of_range_are_refused(params):
    with pytest.raises(ValueError, match=next(iter(params))):
        Pacing(**params)
