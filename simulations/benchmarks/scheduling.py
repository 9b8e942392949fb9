"""Schedulers on the fleet of fedspine_80.toml, without training: virtual seconds to a given progress.

Devices take the time that the simulation's model says, with their own speeds, jitter and heat. What an update gains is
made up, steps^p · rank^q · (1 - pruning)^s, and what the coordinator sees of it scatters by 1.2 of a usual arm's gain,
as on Banking77 (simulations/SCHEDULING.md). Every fixed arm is played too; the best of them is known in hindsight only.
The oracle is told the times and p, q and s. `pacing` begins with a guess at p, q and s, by default one that was read
off Banking77 and is nearly the first form here; it is played with less of a guess too. Counted on a virtual clock:
nothing here depends on the machine.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from statistics import mean, median
from typing import Any

import numpy as np

from fedpeft.bench import Figure, Goal, main, say

RUN_FILE = Path(__file__).parents[1] / "fedspine_80.toml"
FORMS = {"steep": (1.0, 0.5, 1.5), "flat": (0.6, 0.2, 1.0)}  # p, q, s; the first is near Banking77's
INEQUALITIES = (1.0, 2.0)
NAMES = ("random", "exp3", "thompson", "tree", "ucb", "pacing")
GUESSES = {  # what `pacing` takes gains for at first
    "pacing that guesses steps": {"steps_exponent": 1.0, "rank_exponent": 0.0, "pruning_exponent": 0.0},
    "pacing without a guess": {"steps_exponent": 0.0, "rank_exponent": 0.0, "pruning_exponent": 0.0},
}
FROZEN, TRAINED = 10.6e6, 331_776  # values of MiniLM's matrices, and of LoRA of rank 8 on them
BYTES = 1.0625 * TRAINED  # of an update or a broadcast in int8
FIRST_ROUNDS = "the first rounds are as long as the slowest class makes them, before its arms are known"
NOISE, ROUNDS = 1.2, 25  # progress: as much as so many rounds of four steps of everybody


def measure(quick: bool) -> Iterator[Figure]:
    """Virtual seconds."""
    seeds = range(2 if quick else 8)
    for inequality in INEQUALITIES[: 1 if quick else None]:
        for form, exponents in FORMS.items():
            say(f"fleet.inequality {inequality:g}, gains {form}")
            yield from _group(inequality, exponents, seeds)


def _group(inequality: float, exponents: tuple[float, ...], seeds: range) -> Iterator[Figure]:
    p, q, s = exponents
    group = f"seconds, fleet.inequality {inequality:g}, gains steps^{p:g} rank^{q:g} (1 - pruning)^{s:g}"
    fleet = _Fleet(inequality, exponents)
    fixed = [[fleet.play("fixed", seed, **params_of(arm)) for seed in seeds] for arm in fleet.arms]
    best = min(range(len(fixed)), key=lambda place: mean(fixed[place]))
    name = "the best arm for all, in hindsight"
    yield Figure.of(name, fixed[best], "s", group=group, note=str(fleet.arms[best]))
    yield Figure.of("the median arm for all", median(mean(one) for one in fixed), "s", group=group)
    told = {"steps_exponent": p, "rank_exponent": q, "pruning_exponent": s}
    seconds = [fleet.play("oracle", seed, **told) for seed in seeds]
    yield Figure.of("oracle", seconds, "s", group=group, role="limit", goals=[Goal(against=name)])
    for scheduler in NAMES:
        goals = [Goal(against=name)] + [Goal(0.85, against="oracle", why=FIRST_ROUNDS)] * (scheduler == "pacing")
        yield Figure.of(scheduler, [fleet.play(scheduler, seed) for seed in seeds], "s", group=group, goals=goals)
    for label, params in GUESSES.items():
        seconds = [fleet.play("pacing", seed, **params) for seed in seeds]
        yield Figure.of(label, seconds, "s", group=group, goals=[Goal(against=name)])


def params_of(arm: Any) -> dict[str, Any]:
    """An arm as parameters of the scheduler `fixed`."""
    return {"rank": arm.rank, "pruning": arm.pruning, "codec": arm.codec, "steps": arm.steps}


class _Fleet:
    """The devices of the run file, its arms, and gains that are made up."""

    def __init__(self, inequality: float, exponents: tuple[float, ...]) -> None:
        from fedpeft.config import load_run_file
        from fedpeft.scheduling import ClassTimes, Setting
        from fedpeft.simulation.arm_costs import grid_of

        changes = {"fleet.inequality": inequality, "data.folder": "."}
        self.config = load_run_file(RUN_FILE, changes)
        self.ask = self.config.round.ask
        self.grid = grid_of(self.config)
        self.arms = self.grid.arms
        p, q, s = exponents
        self.gains = np.array([arm.steps**p * arm.rank**q * (1.0 - arm.pruning) ** s for arm in self.arms])
        self.loads = tuple(self._load(arm) for arm in self.arms)
        times = {
            table.name: ClassTimes(
                table.clients,
                tuple(
                    (8e-6 * BYTES) / table.down_mbps
                    + 8 * load.megabytes / table.up_mbps
                    + load.steps * table.step_seconds
                    for load in self.loads
                ),
            )
            for table in self.config.device_classes
        }
        self.setting = Setting(self.grid, times=times, loads=self.loads)
        self.goal = ROUNDS * float(self.gains[[arm.steps == 4 for arm in self.arms]].max())

    def _load(self, arm: Any) -> Any:
        from fedpeft.scheduling import Load

        kept, share = 1.0 - arm.pruning, arm.rank / max(self.grid.ranks)
        work = kept * (4 * FROZEN + 6 * TRAINED * share) / (4 * FROZEN + 6 * TRAINED)
        return Load(1e-6 * BYTES * share * kept, arm.steps * work)

    def play(self, name: str, seed: int, **params: Any) -> float:
        """Seconds until the goal.

        Args:
            name: of a scheduler.
            seed: of everything that is drawn.
            params: of the scheduler.
        """
        from fedpeft.registry import build
        from fedpeft.scheduling import Outcome, Reference

        scheduler: Any = build("scheduler", name, params)
        scheduler.begin(self.setting)
        play, reference = _Play(self, seed), Reference()
        while play.progress < self.goal:
            replies = play.round(scheduler)
            reference = reference.after([measured for *_, measured in replies])
            scheduler.observe(
                [
                    Outcome(
                        asked.client,
                        asked.device,
                        choice.place,
                        choice.probability,
                        reference.reward(measured),
                        measured.seconds,
                        measured.gain,
                    )
                    for asked, choice, measured in replies
                ]
            )
        return play.clock


class _Play:
    """One federation on the virtual clock: who is asked, how long they take, how hot they get, how far it is."""

    def __init__(self, fleet: _Fleet, seed: int) -> None:
        from fedpeft.simulation.devices import assign_devices
        from fedpeft.types import ClientId

        self.fleet, self.seed = fleet, seed
        self.draw = np.random.default_rng(seed)
        config = fleet.config.model_copy(update={"run": fleet.config.run.model_copy(update={"seed": seed})})
        clients = [ClientId(f"c{k:02}") for k in range(sum(table.clients for table in config.devices))]
        self.devices = dict(assign_devices(config, clients))
        self.heat = dict.fromkeys(clients, (0.0, 0.0))  # how warm, and when
        self.progress, self.clock, self.number = 0.0, 0.0, 0

    def round(self, scheduler: Any) -> list[tuple[Any, Any, Any]]:
        """Ask a cohort: requests, choices, what was measured."""
        from fedpeft.scheduling import Request

        self.number += 1
        clients, places = list(self.devices), tuple(range(len(self.fleet.arms)))
        replies: list[tuple[Any, Any, Any]] = []
        out: dict[str, dict[int, int]] = {device.table.name: {} for device in self.devices.values()}
        for k in sorted(self.draw.choice(len(clients), self.fleet.ask, replace=False)):
            device = self.devices[clients[k]].table.name
            request = Request(clients[k], device, self.number, int(self.draw.integers(2**62)), places, out[device])
            choice = scheduler.choose(request)
            out[device][choice.place] = out[device].get(choice.place, 0) + 1
            replies.append((request, choice, self._reply(clients[k], choice.place)))
        self.progress += mean(float(self.fleet.gains[choice.place]) for _, choice, _ in replies)
        self.clock += max(measured.seconds for *_, measured in replies)
        return replies

    def _reply(self, client: Any, place: int) -> Any:
        """What the coordinator sees of a client under an arm; it is warmer afterwards."""
        from fedpeft.scheduling import Measured
        from fedpeft.simulation.devices import reply_seconds

        fleet, device, load = self.fleet, self.devices[client], self.fleet.loads[place]
        warm, since = self.heat[client]
        warm *= float(np.exp((since - self.clock) / device.table.cool_s))
        seconds = reply_seconds(
            device,
            "train",
            bytes_down=int(BYTES),
            bytes_up=int(1e6 * load.megabytes),
            steps=load.steps,
            seed=self.seed,
            round_number=self.number,
            client=client,
            slowdown=1.0 + (device.table.hot_factor - 1.0) * warm,
        )
        warmer = 1.0 - (1.0 - warm) * float(np.exp(-seconds / device.table.heat_s))
        self.heat[client] = warmer, self.clock + seconds
        left = float(np.exp(-1.2 * self.progress / fleet.goal))  # gains shrink as the model learns
        seen = fleet.gains[place] + NOISE * fleet.gains.mean() * self.draw.standard_normal()
        return Measured(seconds, left * float(seen))


def _usual(table: Any, load: Any) -> float:
    """Seconds of a usual device of a class."""
    network = 8e-6 * BYTES / table.down_mbps + 8.0 * load.megabytes / table.up_mbps
    return float(network + load.steps * table.step_seconds)


if __name__ == "__main__":
    sys.exit(main(__file__, measure))
