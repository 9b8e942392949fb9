"""What a scheduler is for: more progress in a second than by chance, on a fleet whose best arms are known.

Three classes, the slowest ten times as slow as the fastest, two devices of each in a round. A client of k steps gains
0.1 sqrt(k) in truth, and what is seen of it has noise of 0.3. A round lasts as long as its slowest reply.
"""

import numpy as np
import pytest

from fedpeft.registry import build
from fedpeft.scheduling import ClassTimes, Grid, Measured, Outcome, Reference, Request, Setting
from fedpeft.types import ClientId

GRID = Grid(ranks=(8,), ratios=(0.0,), codecs=("int4", "int8"), steps=(2, 4, 8, 16))
STEP_SECONDS = {"fast": 0.1, "mid": 0.3, "slow": 1.0}
TIMES = {
    device: ClassTimes(10, tuple(0.2 + seconds * arm.steps for arm in GRID.arms))
    for device, seconds in STEP_SECONDS.items()
}


def progress(name, seed, rounds=60):
    """True gain per second over the second half of the rounds."""
    noise, scheduler = np.random.default_rng(seed), build("scheduler", name, {})
    setting, reference = Setting(GRID, times=TIMES), Reference()
    scheduler.begin(setting)
    gained = seconds = 0.0
    for number in range(1, rounds + 1):
        asked, told, truth = [], [], []
        for place, device in enumerate(STEP_SECONDS):
            out = {}
            for k in range(2):
                draw = seed * 10**6 + number * 100 + 10 * place + k
                request = Request(ClientId(f"{device}{k}"), device, number, draw, tuple(range(8)), dict(out))
                choice = scheduler.choose(request)
                out[choice.place] = out.get(choice.place, 0) + 1
                gain = 0.1 * GRID.arms[choice.place].steps ** 0.5
                took = TIMES[device].seconds[choice.place] * np.exp(0.1 * noise.standard_normal())
                asked.append((request, choice))
                told.append(Measured(float(took), gain + 0.3 * float(noise.standard_normal())))
                truth.append(gain)
        reference = reference.after(told)
        scheduler.observe(
            [
                Outcome(
                    request.client,
                    request.device,
                    choice.place,
                    choice.probability,
                    reference.reward(one, setting.slowness),
                    one.seconds,
                    one.gain,
                )
                for (request, choice), one in zip(asked, told, strict=True)
            ]
        )
        if number > rounds // 2:
            gained, seconds = gained + sum(truth), seconds + max(one.seconds for one in told)
    return gained / seconds


def mean_progress(name):
    return float(np.mean([progress(name, seed) for seed in range(5)]))


@pytest.fixture(scope="module")
def by_chance():
    return mean_progress("random")


@pytest.mark.parametrize(
    ("name", "times"), [("ucb", 3.0), ("tree", 2.0), ("thompson", 1.5), ("oracle", 3.0), ("pacing", 3.0)]
)
def test_more_is_gained_in_a_second_than_by_chance(name, times, by_chance):
    found = mean_progress(name)
    assert found > times * by_chance, (found, by_chance)
