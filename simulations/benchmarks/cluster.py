"""What a cluster would do: constants measured here, a model of them checked at one and two workers, and its forecast.

The run is assistant.toml (MiniLM, LoRA on all linear layers, three classes of devices) with more clients. Measured: a
client's step, what the coordinator's process does for a client beside it, bytes, memory, what Ray adds; and, with a
model that costs nothing, a coordinator that knows very many clients. `cluster_model.py` puts them together. Figures
called "forecast" were never run. The model is checked against CPU time along the longest path (the coordinator, and of
each cohort the worker that had most to do), which is the wall time of a machine with nothing else to do; the wall time
itself is shown beside it.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from statistics import median

from fedpeft.bench import Figure, Goal, main, say
from simulations.benchmarks.cluster_model import Costs, deployed_round, simulated_round
from simulations.benchmarks.cluster_runs import (
    LOOKAHEAD,
    RUN_FILE,
    Lap,
    device_tables,
    federate,
    know_many,
    one_step_jobs,
)

CROWD, KNOWN = 1000, 1_000_000
LINE = 125e6  # bytes a second: 1 Gbit/s, an assumption
AGREES = 0.15  # the model may be off by so much where it was checked


def measure(quick: bool) -> list[Figure]:
    """Seconds, bytes and memory, measured; seconds, forecast."""
    from fedpeft.bench.process import in_fresh_process

    clients, ask, rounds = (16, 12, 3) if quick else (64, 48, 4)
    runs: dict[int, list[Lap]] = {1: [], 2: []}
    for repeat in range(1 if quick else 2):
        for workers in runs:
            say(f"{ask} of {clients} clients on {workers} worker{'s' * (workers > 1)}, run {repeat + 1}")
            runs[workers] += in_fresh_process(federate, clients, ask, rounds, workers)
    costs = constants(runs)
    say("a coordinator that knows many clients")
    crowds = ((2_000, 1_000), (10_000, 1_000)) if quick else ((10_000, 1_000), (100_000, 1_000))
    known = [in_fresh_process(know_many, *crowd) for crowd in crowds]
    figures = [*_constants(runs, costs), *_checks(runs, costs), *_known(known), *_ray(quick)]
    return [*figures, *_forecasts(costs, runs, known[-1])]


def constants(runs: dict[int, list[Lap]]) -> Costs:
    """From half of the rounds on one worker; what a result costs on its way, from those on two."""
    half = runs[1][::2]
    return Costs(
        step=median(lap.inside / sum(lap.steps) for lap in half),
        serial=median((lap.cpu - lap.inside) / len(lap.steps) for lap in half),
        message=median(lap.inside / len(lap.steps) for lap in runs[2]),
        round=0.0,  # is in `serial`: cohorts here are large
    )


def _constants(runs: dict[int, list[Lap]], costs: Costs) -> list[Figure]:
    group = "measured: a client and round, CPU time"
    laps = runs[1]
    return [
        Figure.of("training, a step", [1e3 * lap.inside / sum(lap.steps) for lap in laps], "ms", group=group),
        Figure.of(
            "the coordinator's process, beside training",
            [1e3 * (lap.cpu - lap.inside) / len(lap.steps) for lap in laps],
            "ms",
            group=group,
        ),
        Figure.of(
            "the same, for taking a result from a worker",
            [1e3 * lap.inside / len(lap.steps) for lap in runs[2]],
            "ms",
            group=group,
        ),
        Figure.of(
            "up",
            [lap.bytes_up / len(lap.steps) / 1e3 for lap in laps],
            "kB",
            group="measured: a client and round, frames",
        ),
        Figure.of(
            "down",
            [lap.bytes_down / len(lap.steps) / 1e3 for lap in laps],
            "kB",
            group="measured: a client and round, frames",
        ),
        Figure.of(
            "of a forked worker's own",
            [size / 1e6 for lap in runs[2] for size in lap.private],
            "MB",
            group="measured: memory",
            note="shared with no other process; the base and the data are the parent's",
        ),
    ]


def _checks(runs: dict[int, list[Lap]], costs: Costs) -> list[Figure]:
    figures = []
    for workers, laps in ((1, runs[1][1::2]), (2, runs[2])):
        group = f"a round on {workers} worker{'s' * (workers > 1)}, model and measurement"
        said = [_forecast(lap.steps, workers, costs) for lap in laps]
        off = median(abs(model / lap.path - 1) for model, lap in zip(said, laps, strict=True))
        figures += [
            Figure.of("measured: CPU time, longest path", [lap.path for lap in laps], "s", group=group),
            Figure.of("model", said, "s", group=group),
            Figure.of("measured: wall time", [lap.wall for lap in laps], "s", group=group, note=_load()),
            Figure.of("error of the model", 100 * off, "%", group=f"{group}: error", goals=[Goal(100 * AGREES)]),
        ]
    return figures


def _load() -> str:
    return f"longer where cores are shared; load average {os.getloadavg()[1]:.1f} on {os.cpu_count()} cores"


def _forecast(steps: Sequence[int], workers: int, costs: Costs) -> float:
    own = replace(costs, message=costs.message if workers > 1 else 0.0)
    return simulated_round(steps, workers, own, lookahead=LOOKAHEAD).seconds


def crowd_steps(clients: int) -> list[int]:
    """Steps of a cohort of the three classes, dealt evenly."""
    found = [table["steps"] for table in device_tables(clients) for _ in range(table["clients"])]
    return [found[(7 * place) % clients] for place in range(clients)]  # 7 and 1,000 have no common divisor


def _forecasts(costs: Costs, runs: dict[int, list[Lap]], known: dict[str, float]) -> list[Figure]:
    steps, figures = crowd_steps(CROWD), []
    asking = replace(costs, round=KNOWN * known["round"] / known["clients"])
    for pipelined, how in ((False, "as it is"), (True, "if the next cohort were trained meanwhile")):
        group = f"forecast: a round of {CROWD:,} out of {KNOWN:,} clients, {how}"
        for workers in (1, 2, 8, 32, 100, 300):
            lookahead = max(1, min(64, CROWD // workers // (2 if pipelined else 1)))
            found = simulated_round(steps, workers, asking, lookahead=lookahead, pipelined=pipelined)
            busy = f"workers busy {found.workers_busy:.0%}, coordinator {found.coordinator_busy:.0%}"
            figures.append(Figure.of(f"{workers} workers", found.seconds, "s", group=group, note=busy))
    lap = runs[1][-1]
    up, down = lap.bytes_up / len(lap.steps), lap.bytes_down / len(lap.steps)
    replies = sorted(device_seconds(CROWD, up, down))
    group = f"forecast: a round of {CROWD:,} real devices, 1 Gbit/s at the coordinator"
    for name, kept in (("all of them", replies), ("the first 900", replies[:900])):
        found = deployed_round(kept, bytes_up=up, line=LINE, fold=costs.serial)
        note = f"the slowest device takes {kept[-1]:.1f} s; coordinator busy {found.coordinator_busy:.0%}"
        figures.append(Figure.of(name, found.seconds, "s", group=group, note=note))
    return figures


def device_seconds(clients: int, bytes_up: float, bytes_down: float) -> list[float]:
    """When each device of a cohort has replied, by the time model of the run files."""
    from fedpeft.config import load_run_file
    from fedpeft.simulation.devices import assign_devices, reply_seconds
    from fedpeft.types import ClientId

    config = load_run_file(RUN_FILE, {"devices": device_tables(clients)})
    devices = assign_devices(config, [ClientId(f"c{number}") for number in range(clients)])
    return [
        reply_seconds(
            device, "train", bytes_down=int(bytes_down), bytes_up=int(bytes_up), steps=device.table.steps or 0,
            seed=config.run.seed, round_number=1, client=client,
        )
        for client, device in devices.items()
    ]  # fmt: skip


def _known(found: Sequence[dict[str, float]]) -> list[Figure]:
    figures = []
    for crowd in found:
        name = f"{crowd['clients']:,.0f} clients known, {crowd['ask']:,.0f} asked"
        group = "measured: a coordinator of many clients, nothing trained"
        figures += [
            Figure.of(name, 1e3 * crowd["round"], "ms", group=f"{group}: choosing whom to ask", note="CPU time"),
            Figure.of(name, 1e6 * crowd["hello"], "µs", group=f"{group}: hello, a client", note="CPU time, both sides"),
            Figure.of(name, crowd["bytes"] / 1e3, "kB", group=f"{group}: memory, a client", note="both sides"),
        ]
    return figures


def _ray(quick: bool) -> list[Figure]:
    """What a job costs more on Ray than in a process of this machine: jobs of one step on one example."""
    group = "measured: a job of one example on two workers, wall time"
    names = ("processes", "Ray actors")
    try:
        import ray
    except ImportError as error:
        return [Figure.missing(name, error, "ms", group=group, role="own") for name in names]
    del ray
    from fedpeft.bench.process import in_fresh_process

    say("Ray")
    found = in_fresh_process(one_step_jobs, 3 if quick else 9)
    return [
        Figure.of(name, [1e3 * seconds for seconds in found[name]], "ms", group=group, note=note)
        for name, note in zip(names, ("", f"ready after {found['start'][0]:.0f} s"), strict=True)
    ]


if __name__ == "__main__":
    sys.exit(main(__file__, measure))
