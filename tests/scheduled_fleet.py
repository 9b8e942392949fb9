"""Clients in memory that do as the arm in their plan says, and a coordinator with a scheduler to drive them."""

from __future__ import annotations

from fake_fleet import FakeFleet, FakeRun, answer, delta_of

from fedpeft.journal import EventKind
from fedpeft.registry import build
from fedpeft.scheduling import Choice, Grid, Scheduler, Setting
from fedpeft.server.scheduling import SchedulingSettings
from fedpeft.wire.frame import FrameKind

GRID = Grid(ranks=(2, 8), ratios=(0.0,), codecs=("fp32", "int8"), steps=(4, 8))
SETTINGS = SchedulingSettings(GRID, tuple(100.0 * arm.rank for arm in GRID.arms), full_rank=8)
PRUNED_GRID = Grid(ranks=(8,), ratios=(0.0, 0.5), codecs=("fp32",), steps=(4,))
PRUNED = SchedulingSettings(PRUNED_GRID, (200.0, 100.0), full_rank=8, whole_mb=(200.0, 200.0))


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
