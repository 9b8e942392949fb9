"""The scheduler in a coordinator: arms in plans, rewards at commits, small clients, crashes and short rounds."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest
from fake_fleet import FakeFleet, FakeRun, answer, delta_of

from fedpeft.errors import ConfigError, PluginError, RoundError
from fedpeft.journal import EventKind
from fedpeft.registry import build
from fedpeft.scheduling import Choice, ClassTimes, Grid, Scheduler, Setting
from fedpeft.server.scheduling import SchedulingSettings
from fedpeft.types import ALL_COMPONENTS
from fedpeft.wire.frame import FrameKind

GRID = Grid(ranks=(2, 8), ratios=(0.0,), codecs=("fp32", "int8"), steps=(4, 8))
SETTINGS = SchedulingSettings(GRID, tuple(100.0 * arm.rank for arm in GRID.arms), full_rank=8)


def fleet(clients=4):
    """Clients that do as their plan says: by its codec, slower for more steps, with a loss that falls with them."""
    found = FakeFleet(clients)
    for client in found.clients:
        client.seconds = lambda frame: 0.5 * frame.plan.steps
        client.train = obey(client)
    return found


def obey(client):
    def train(frame):
        plan = frame.plan
        body = build("codec", plan.codec, {}).encode(delta_of(client.node, frame.round))
        metrics = {"loss_first": 1.0, "loss_last": 1.0 - 0.01 * plan.steps}
        return answer(frame, FrameKind.UPDATE, body=body, codec=plan.codec, weight=10.0, metrics=metrics)

    return train


def run(found, folder, name="ucb", settings=SETTINGS, params=None, **options):
    own = {f"scheduler__{key}": value for key, value in {"name": name, **(params or {})}.items()}
    return FakeRun(found, folder, scheduling=settings, **own, **options)


def choices(of):
    return of.told(EventKind.ARM_CHOSEN, "place")


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


def test_an_attempt_that_came_to_nothing_taught_nothing(tmp_path):
    """A round that is short in its first attempt makes the choices of one that had the scheduler of before."""
    found, state = fleet(), {}
    found["c00"].train = found["c01"].train = lambda frame: obey(found["c02"])(frame) if frame.attempt > 1 else b""
    of = run(found, tmp_path, round__min_replies=3, run__rounds=1)
    before = of.coordinator.state.scheduling.state()

    def watch(event):
        if event.kind is EventKind.ROUND_SHORT:
            state["after"] = of.coordinator.state.scheduling.state()

    of.journal.subscribe(watch)
    of.run()
    assert of.told(EventKind.ROUND_SHORT)
    assert state["after"] == before
    assert {number for number, _ in of.told(EventKind.ARM_REWARDED)} == {1}


DEADLINE_GRID = Grid(ranks=(8,), ratios=(0.0,), codecs=("fp32",), steps=(16, 24))  # 8 and 12 s; the deadline is 10 s
DEADLINE = SchedulingSettings(DEADLINE_GRID, (100.0, 100.0), full_rank=8)


@pytest.mark.parametrize("name", ["pacing", "ucb", "oracle"])
def test_an_arm_that_always_misses_the_deadline_is_given_up(tmp_path, name):
    times = {"default": ClassTimes(4, (8.0, 12.0))} if name == "oracle" else None
    of = run(fleet(), tmp_path, name, replace(DEADLINE, times=times), run__rounds=20)
    of.run()
    late = [place for number, _, place in choices(of) if number > 10]
    assert late.count(0) >= 0.8 * len(late), late


class Stubborn(Scheduler):
    """The longest arm until it has missed a deadline, then the shortest."""

    def begin(self, setting):
        super().begin(setting)
        self.missed = []

    def choose(self, request):
        return Choice(request.offered[0 if self.missed else -1], "stubborn", 0.5)

    def observe(self, outcomes):
        self.missed += [[one.client, one.place, one.probability, one.reward] for one in outcomes if one.seconds is None]

    def state(self):
        return {"missed": self.missed}

    def restore(self, state):
        self.missed = list(state["missed"])


class Killed(Exception):
    pass


def killed_at(of, kind, count):
    """Run until so many events of a kind are on record."""
    left = [count]

    def kill(event):
        left[0] -= event.kind is kind
        if event.kind is kind and left[0] == 0:
            raise Killed

    of.journal.subscribe(kill)
    with pytest.raises(Killed):
        of.run()
    of.journal.close()


def stubborn(folder):
    of = run(fleet(), folder, "random", DEADLINE, run__rounds=2, round__attempts=2)
    of.coordinator.state.scheduling.scheduler = Stubborn()
    of.coordinator.state.scheduling.scheduler.begin(Setting(DEADLINE_GRID))
    return of


def test_deadlines_missed_in_an_attempt_that_came_short_are_learned_for_the_next(tmp_path):
    of = stubborn(tmp_path)
    of.run()
    places = [(event.attempt, event.payload["place"]) for event in of.journal.events(EventKind.ARM_CHOSEN)]
    assert places[:8] == [(1, 1)] * 4 + [(2, 0)] * 4
    assert {place for _, place in places[8:]} == {0}
    assert of.coordinator.state.scheduling.scheduler.missed == [[f"c0{k}", 1, 0.5, 0.0] for k in range(4)]


@pytest.mark.parametrize(("kind", "count"), [(EventKind.ARM_REWARDED, 2), (EventKind.ROUND_SHORT, 1)])
def test_a_resumed_run_knows_what_was_missed_before_it_was_killed(tmp_path, kind, count):
    whole = stubborn(tmp_path / "whole")
    whole.run()
    killed_at(stubborn(tmp_path / "parts"), kind, count)
    again = stubborn(tmp_path / "parts")
    again.run()
    known = [scheduling.coordinator.state.scheduling.scheduler.missed for scheduling in (again, whole)]
    assert known[0] == known[1], "each of them once"
    assert dict(last(choices(again))) == dict(last(choices(whole)))


PRUNED_GRID = Grid(ranks=(8,), ratios=(0.0, 0.5), codecs=("fp32",), steps=(4,))
PRUNED = SchedulingSettings(PRUNED_GRID, (200.0, 100.0), full_rank=8, whole_mb=(200.0, 200.0))


class Pruner(Stubborn):
    """Always the most pruned of what is offered."""

    def choose(self, request):
        return Choice(request.offered[-1], "pruned", 1.0 / len(request.offered))


def pruner(found, folder, scheduler=None, **options):
    of = run(found, folder, "random", PRUNED, **options)
    scheduling = of.coordinator.state.scheduling
    scheduling.scheduler = scheduler or Pruner()
    scheduling.scheduler.begin(Setting(PRUNED_GRID))
    return of


def test_two_of_a_cohort_train_the_whole_model_so_that_all_can_be_judged(tmp_path):
    of = pruner(fleet(), tmp_path, run__rounds=8)
    of.run()
    forced = Counter()
    for event in of.journal.events(EventKind.ARM_CHOSEN):
        if event.round > 1:
            assert (event.payload["place"] == 0) == event.payload["why"].startswith("to judge others: ")
            assert event.payload["probability"] == (1.0 if event.payload["place"] == 0 else 0.5)
            forced[event.client] += event.payload["place"] == 0
    assert sum(forced.values()) == 2 * 7
    assert all(0 < count < 7 for count in forced.values()), forced
    assert len(of.told(EventKind.ARM_REWARDED)) == 4 * 8
    assert all(gain is not None for *_, gain in of.told(EventKind.ARM_REWARDED, "gain"))


@pytest.mark.parametrize("name", ["fixed", "oracle", "random"])
def test_who_learns_nothing_is_left_to_choose(tmp_path, name):
    times = {"default": ClassTimes(4, (8.0, 0.1))} if name == "oracle" else None
    params = {"pruning": 0.5} if name == "fixed" else {}
    of = run(fleet(), tmp_path, name, replace(PRUNED, times=times), params, run__rounds=6)
    of.run()
    assert not any("judge" in why for *_, why in of.told(EventKind.ARM_CHOSEN, "why"))
    if name != "random":
        assert {place for number, _, place in choices(of) if number > 1} == {1}


class Silent(Pruner):
    """Says that it needs no judges, and notes what it is told."""

    needs_judges = False

    def begin(self, setting):
        super().begin(setting)
        self.told = []

    def observe(self, outcomes):
        self.told.append([(one.client, one.place, one.reward, one.seconds, one.offered) for one in outcomes])


def test_seconds_are_told_where_nobody_can_judge(tmp_path):
    scheduler = Silent()
    of = pruner(fleet(2), tmp_path, scheduler, run__rounds=2)
    of.run()
    assert scheduler.told[1] == [(f"c0{k}", 1, None, 2.0, (0, 1)) for k in range(2)]
    assert {number for number, _ in of.told(EventKind.ARM_REWARDED)} == {1}


def test_before_anything_is_pruned_who_fits_a_pruned_arm_alone_sits_out(tmp_path):
    found = fleet()
    found["c03"].info = {"memory_mb": 150}
    of = pruner(found, tmp_path, run__rounds=3)
    of.run()
    asked = [(frame.round, frame.client, frame.plan.pruning) for frame in found.asked]
    assert {client for number, client, _ in asked if number == 1} == {"c00", "c01", "c02"}
    assert {ratio for number, _, ratio in asked if number == 1} == {0.0}
    assert {ratio for number, client, ratio in asked if number > 1 and client == "c03"} == {0.5}
    ((number, client, reason),) = of.told(EventKind.SAT_OUT, "reason")
    assert (number, client) == (1, "c03")
    assert "pruning.start" in reason


def test_an_arm_that_is_not_yet_what_it_says_is_not_learned_of(tmp_path):
    """Half of the ratio in round 2: a quarter, which is no arm of the grid; all of it in round 3."""
    scheduler = Silent()
    of = pruner(fleet(2), tmp_path, scheduler, run__rounds=3, pruning__ramp=2, pruning__every=1)
    of.run()
    assert [len(told) for told in scheduler.told] == [2, 0, 2]


@pytest.mark.parametrize("name", ["ucb", "thompson", "tree", "exp3", "random", "pacing"])
@pytest.mark.parametrize("kind", [EventKind.ARM_CHOSEN, EventKind.ARM_REWARDED, EventKind.COMMITTED])
@pytest.mark.parametrize("settings", [SETTINGS, PRUNED], ids=["whole", "pruned"])
def test_killed_and_resumed_it_makes_the_same_choices(tmp_path, name, kind, settings):
    options = {"run__rounds": 6, "round__ask": 3, "settings": settings}
    whole = run(fleet(), tmp_path / "whole", name, **options)
    theta = whole.run()
    killed_at(run(fleet(), tmp_path / "parts", name, **options), kind, 8 if kind is not EventKind.COMMITTED else 4)
    again = run(fleet(), tmp_path / "parts", name, **options)
    assert (again.run() == theta).all()
    assert dict(last(choices(again))) == dict(last(choices(whole)))
    assert dict(last(again.told(EventKind.ARM_REWARDED, "reward"))) == dict(
        last(whole.told(EventKind.ARM_REWARDED, "reward"))
    )


def last(rows):
    """(round, client) -> value; of a round that was begun twice, the later."""
    return [((number, client), value) for number, client, value in rows]


def test_asynchronous_rounds_learn_too(tmp_path):
    of = run(fleet(5), tmp_path, round__mode="async", round__ask=4, round__buffer=2, run__rounds=8)
    of.run()
    rewarded = of.told(EventKind.ARM_REWARDED, "reward")
    assert len(rewarded) == 16
    assert of.coordinator.state.scheduling.scheduler.state() != {}


def books(of):
    """What a scheduler has on its books, and what is really out."""
    scheduling, inflight = of.coordinator.state.scheduling, of.coordinator.state.inflight
    noted = sum((sum(counts.values()) for counts in scheduling._at_work.values()), 0)
    return len(scheduling._out), noted, {(one.round, one.attempt, one.client) for one in inflight.out()}


@pytest.mark.parametrize("bad", ["refused", "too old"])
def test_a_choice_that_nothing_will_be_learned_of_is_off_the_books(tmp_path, bad):
    """In asynchronous rounds whose reply is of no use is asked again at once, and so is never seen idle."""
    found = fleet(5)
    options = {"round__mode": "async", "round__ask": 4, "round__buffer": 2, "run__rounds": 30}
    if bad == "refused":
        found["c01"].train = lambda frame: b"rubbish"
    else:
        found["c01"].seconds = lambda frame: 12.0
        options |= {"round__max_staleness": 1, "round__deadline_s": 1000.0}
    of = run(found, tmp_path, **options)
    of.run()
    assert len(of.told(EventKind.REFUSED if bad == "refused" else EventKind.LATE)) > 1
    known, noted, out = books(of)
    assert known == noted <= len(out)


def test_in_asynchronous_rounds_two_judge_however_many_replies_are_refused(tmp_path):
    found = fleet(6)
    for client in ("c04", "c05"):
        found[client].train = lambda frame: b"rubbish"
    of = pruner(found, tmp_path, round__mode="async", round__ask=6, round__buffer=4, run__rounds=40)
    of.run()
    assert any(number > 20 and "judge" in why for number, _, why in of.told(EventKind.ARM_CHOSEN, "why"))
    assert len([number for number, _ in of.told(EventKind.ARM_REWARDED) if number > 20]) > 40  # of 80


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
