"""The learning rate over the rounds: every schedule keeps the contract, and each follows its equation."""

import math

import pytest
from fake_fleet import FakeFleet, FakeRun, fleet_config

from fedpeft.errors import ConfigError, PluginError
from fedpeft.journal import EventKind
from fedpeft.registry import names
from fedpeft.server.schedules import Constant, Cosine, Linear, Step, load_schedule

BUILT_IN = {
    "constant": {"warmup": 2},
    "linear": {"warmup": 2, "final": 0.2},
    "cosine": {"warmup": 2, "final": 0.2},
    "step": {"every": 3, "factor": 0.5, "warmup": 2},
}


def test_the_list_is_complete():
    assert sorted(BUILT_IN) == names("schedule")


@pytest.mark.parametrize("rounds", [1, 2, 3, 4, 50])
@pytest.mark.parametrize("name", BUILT_IN)
def test_every_schedule_warms_up_and_never_rises_again(name, rounds):
    schedule = load_schedule(
        fleet_config(2, run__rounds=rounds, run__name="x", local__schedule={"name": name} | BUILT_IN[name])
    )
    factors = [schedule(number, rounds) for number in range(1, rounds + 1)]
    assert factors[:3] == pytest.approx([1 / 3, 2 / 3, 1.0][:rounds])
    assert all(0 < factor <= 1 for factor in factors)
    assert factors[2:] == sorted(factors[2:], reverse=True)


def test_each_follows_its_equation():
    assert [Linear(final=0.5)(number, 5) for number in range(1, 6)] == pytest.approx([1, 0.875, 0.75, 0.625, 0.5])
    assert [Cosine(final=0.0)(number, 5) for number in range(1, 6)] == pytest.approx(
        [1, (1 + math.sqrt(0.5)) / 2, 0.5, (1 - math.sqrt(0.5)) / 2, 0]
    )
    assert [Step(every=2, factor=0.1)(number, 5) for number in range(1, 6)] == pytest.approx([1, 1, 0.1, 0.1, 0.01])
    assert [Constant()(number, 5) for number in range(1, 6)] == [1] * 5


@pytest.mark.parametrize(
    ("schedule", "said"),
    [
        ({"name": "cosine", "final": 1.5}, "final = 1.5 must be from 0 to 1"),
        ({"name": "linear", "warmup": 0.5}, "warmup = 0.5 must be a whole number"),
        ({"name": "step", "every": 0}, "every = 0 must be"),
        ({"name": "step", "every": 2, "factor": 0.0}, "factor = 0.0 must be above 0"),
        ({"name": "cosine", "warm_up": 3}, 'schedule "cosine" has no parameter warm_up'),
        ({"name": "cosin"}, 'schedule "cosin" is not known'),
    ],
)
def test_what_is_wrong_is_said_by_name(schedule, said):
    with pytest.raises(PluginError, match=said):
        load_schedule(fleet_config(2, local__schedule=schedule))


def test_a_schedule_is_a_table():
    with pytest.raises(ConfigError, match=r"local\.schedule"):
        fleet_config(2, local__schedule="cosine")


def test_one_of_ones_own_that_gives_no_sound_rate_is_refused_before_the_run(tmp_path):
    (tmp_path / "own.py").write_text(
        "def wild():\n    return lambda round, rounds: 1.0 if round < 3 else float('nan')\n"
    )
    config = fleet_config(2, local__schedule={"name": f"{tmp_path}/own.py:wild"})
    with pytest.raises(PluginError, match="gives round 3 of 3 the factor nan"):
        load_schedule(config)


def test_plans_and_the_journal_have_the_rate_of_their_round(tmp_path):
    options = {"local__learning_rate": 0.1, "local__schedule": {"name": "linear", "final": 0.5}}
    run = FakeRun(FakeFleet(2), tmp_path, **options)
    run.run()
    assert [frame.plan.learning_rate for frame in run.fleet.asked[::2]] == pytest.approx([0.1, 0.075, 0.05])
    rates = [rate for _, _, rate in run.told(EventKind.COMMITTED, "learning_rate")]
    assert rates[0] is None
    assert rates[1:] == pytest.approx([0.1, 0.075, 0.05])
