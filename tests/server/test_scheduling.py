"""The scheduler in a coordinator: arms in plans, rewards at commits, clients that are too small, wrong choices."""

from __future__ import annotations

import pytest
from scheduled_fleet import GRID, SETTINGS, choices, fleet, run

from fedpeft.errors import ConfigError, PluginError, RoundError
from fedpeft.journal import EventKind
from fedpeft.scheduling import Choice, ClassTimes, Scheduler
from fedpeft.server.scheduling import SchedulingSettings
from fedpeft.types import ALL_COMPONENTS


def test_a_plan_carries_its_arm_and_the_reply_is_read_by_its_codec(tmp_path):
    found = fleet()
    of = run(found, tmp_path, "random", run__rounds=6)
    of.run()
    asked = [(frame.round, frame.client, frame.plan) for frame in found.asked]
    assert len(asked) == 24
    told = {(event.round, event.client): event.payload for event in of.journal.events(EventKind.ARM_CHOSEN)}
    for number, client, plan in asked:
        arm = GRID.arms[told[number, client]["place"]]
        assert (plan.codec, plan.steps) == (arm.codec, arm.steps)
        assert plan.rank == (ALL_COMPONENTS if arm.rank == 8 else 2)
    assert {plan.codec for *_, plan in asked} == {"fp32", "int8"}
    assert len(of.told(EventKind.ACCEPTED)) == 24, "none was refused"
    steps = {(event.round, event.client): event.payload["steps"] for event in of.journal.events(EventKind.ASKED)}
    assert all(steps[number, client] == plan.steps for number, client, plan in asked)


def test_every_reply_is_rewarded_before_its_commit_in_client_order(tmp_path):
    found = fleet()
    found["c00"].seconds = 3.9  # the slowest has the first name
    of = run(found, tmp_path)
    of.run()
    kinds = [(e.kind, e.round, e.client) for e in of.journal.events()]
    for number in (1, 2, 3):
        end = kinds.index((EventKind.COMMITTED, number, None))
        rewarded = kinds[end - 4 : end]
        assert rewarded == [(EventKind.ARM_REWARDED, number, f"c0{k}") for k in range(4)]
    places = {(e.round, e.client): e.payload["place"] for e in of.journal.events(EventKind.ARM_CHOSEN)}
    for event in of.journal.events(EventKind.ARM_REWARDED):
        assert event.payload["place"] == places[event.round, event.client]
        assert 0 <= event.payload["reward"] < 1


def test_an_arm_that_does_not_fit_is_not_offered_and_who_fits_none_sits_out(tmp_path):
    found = fleet()
    found["c01"].info = {"memory_mb": 300}
    found["c02"].info = {"memory_mb": 100}
    found["c03"].info = {"memory_mb": 900}
    of = run(found, tmp_path, run__rounds=8)
    of.run()
    ranks = {client: set() for client in ("c00", "c01", "c03")}
    for event in of.journal.events(EventKind.ARM_CHOSEN):
        ranks[event.client].add(event.payload["rank"])
    assert ranks == {"c00": {2, 8}, "c01": {2}, "c03": {2, 8}}
    ((number, client, reason),) = of.told(EventKind.SAT_OUT, "reason")
    assert (number, client) == (1, "c02"), "named once"
    assert "reports 100 MB" in reason
    assert "needs 200 MB" in reason


def test_a_run_whose_clients_are_all_too_small_says_so(tmp_path):
    found = fleet(2)
    for client in found.clients:
        client.info = {"memory_mb": 1}
    with pytest.raises(RoundError, match="no arm fits the memory of client c00, c01"):
        run(found, tmp_path).run()


def test_who_fits_no_arm_is_not_taken_for_free_while_a_straggler_is_waited_for(tmp_path):
    """Two of five fit, and both are needed: one that is late once must not cost the run its attempts."""
    found = fleet(5)
    for name in ("c02", "c03", "c04"):
        found[name].info = {"memory_mb": 100}
    found["c01"].seconds = lambda frame: 12.0 if frame.attempt == 1 else 1.0
    of = run(found, tmp_path, round__min_replies=2, round__attempts=3, run__rounds=1)
    of.run()
    assert of.journal.last_commit().round == 1
    assert len(of.told(EventKind.ROUND_SHORT)) == 1
    assert len(of.told(EventKind.SAT_OUT)) == 3, "each is named once"


def test_a_round_that_nobody_could_be_asked_for_names_stragglers_beside_those_that_are_too_small(tmp_path):
    found = fleet(3)
    found["c02"].info = {"memory_mb": 100}
    for name in ("c00", "c01"):
        found[name].seconds = 25.0
    with pytest.raises(RoundError) as caught:
        run(found, tmp_path, round__attempts=2, run__rounds=1).run()
    assert "no reply yet to what was asked of client c00, c01" in caught.value.message
    assert "no arm fits the memory of client c02" in caught.value.message


def test_a_missed_deadline_is_rewarded_with_nothing(tmp_path):
    found = fleet()
    found["c02"].seconds = 11.0
    of = run(found, tmp_path, run__rounds=1)
    of.run()
    told = of.told(EventKind.ARM_REWARDED, "reward", "seconds")
    rewards = {client: (reward, seconds) for _, client, reward, seconds in told}
    assert rewards["c02"] == (0.0, None)
    assert all(rewards[client][0] > 0 for client in ("c00", "c01", "c03"))


def test_a_refused_reply_says_nothing_of_its_arm(tmp_path):
    found = fleet()
    found["c01"].train = lambda frame: b"rubbish"
    of = run(found, tmp_path, run__rounds=2)
    of.run()
    assert {client for _, client in of.told(EventKind.ARM_REWARDED)} == {"c00", "c02", "c03"}


class Greedy(Scheduler):
    def choose(self, request):
        return Choice(99, "out of range")


def test_a_scheduler_that_chooses_what_was_not_offered_is_named(tmp_path):
    of = run(fleet(), tmp_path)
    of.coordinator.state.scheduling.scheduler = Greedy()
    with pytest.raises(PluginError) as caught:
        of.run()
    assert caught.value.code == "plugin.scheduler-choice"


@pytest.mark.parametrize(
    ("name", "params", "code"),
    [
        ("usb", {}, "plugin.unknown-scheduler"),
        ("ucb", {"discount": 2.0}, "plugin.scheduler-parameter"),
        ("fixed", {"rank": 2}, "config.scheduler-arms"),
        ("oracle", {}, "config.scheduler-times"),
    ],
)
def test_what_cannot_be_is_refused_with_its_name(tmp_path, name, params, code):
    with pytest.raises((ConfigError, PluginError)) as caught:
        run(fleet(), tmp_path, name, params=params)
    assert caught.value.code == code
    assert name in caught.value.message
    assert caught.value.remedy


def test_the_oracle_is_served_where_times_are_known(tmp_path):
    times = {"default": ClassTimes(4, tuple(0.5 * arm.steps for arm in GRID.arms))}
    of = run(fleet(), tmp_path, "oracle", SchedulingSettings(GRID, SETTINGS.memory_mb, 8, times))
    of.run()
    assert len({place for *_, place in choices(of)}) == 1
