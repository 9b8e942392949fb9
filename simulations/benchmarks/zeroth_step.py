"""A zeroth-order step beside two bare forward passes: time over all weights and over LoRA, and memory.

MiniLM, four labels, one core, CPU time, contenders interleaved; our step also with momentum, whose moves are dense, and
by one forward-mode pass. The peer is the step as published (MeZO): four passes
of normal numbers, tensor by tensor, with temporaries. Memory is the peak of resident pages over the loaded model, each
mode in a process of its own; the model is in private memory: nothing that is mapped from a file counts as free.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np

from fedpeft.bench import Figure, Goal, interleaved, main, say
from fedpeft.bench.process import in_fresh_process
from simulations.benchmarks.workload import SHAPES, Shape

BARE, OURS, PUBLISHED = "limit: two forward passes", "fedpeft", "MeZO, as published"
MOMENTUM, SLOPE = "fedpeft, momentum", "fedpeft, forward gradient"
INFERENCE, LORA_BACK, FULL_BACK = "limit: inference", "LoRA by backpropagation", "all weights by AdamW"
EPSILON, RATE = 1e-3, 1e-6
GOALS = {"full": 1 / 1.2, "lora": 1 / 1.1}


def measure(quick: bool) -> Iterator[Figure]:
    """ms a step, MB over the loaded model."""
    import torch

    torch.set_num_threads(1)
    for shape in SHAPES[:1] if quick else SHAPES:
        for kind in ("full", "lora"):
            say(f"{shape}, {kind}")
            yield from _time(kind, shape, 2 if quick else 9)
    say("memory")
    yield from _memory(SHAPES[0])


def parts(kind: str, shape: Shape) -> tuple[Any, Any, Any, Any]:
    """Adapter, task, one client's job and its first batch."""
    from dataclasses import replace

    from fedpeft.adapters import load_base
    from fedpeft.config import AdapterTable
    from fedpeft.registry import load
    from fedpeft.training import TaskContext
    from fedpeft.training.tasks.label_names import LabelNames
    from simulations.benchmarks.workload import NAMES, SOURCE, TEMPERATURE, encoder, jobs

    if kind == "lora":
        adapter, task = encoder()
    else:
        base = load_base(SOURCE)
        task = LabelNames(TaskContext.of(base, NAMES, temperature=TEMPERATURE, max_length=512))
        adapter = load("adapter", "full")(base, AdapterTable(type="full"), classifier=False, seed=0)
    adapter.forget_gradient()
    (job,) = jobs(adapter, 1, shape)
    batch = task.batch(job.data, np.arange(shape.examples))
    return adapter, task, replace(job, plan=replace(job.plan, learning_rate=RATE)), batch


def our_step(
    adapter: Any, task: Any, job: Any, batch: Any, optimizer: str = "sgd", estimator: str = "two-point"
) -> Callable[[], object]:
    """One step of the trainer: a direction of the Hadamard pool, two losses or a slope, the move."""
    from dataclasses import replace

    import torch

    from fedpeft.registry import build
    from fedpeft.training.zeroth.record import Record, ZerothSettings
    from fedpeft.training.zeroth.trainer import ZerothTrainer
    from fedpeft.training.zeroth.walk import walk_of
    from fedpeft.zeroth.coordinates import Coordinates
    from fedpeft.zeroth.hadamard import HadamardPool
    from fedpeft.zeroth.replica import Replica

    by = build("coefficient_optimizer", optimizer, {})
    coordinates = Coordinates(4096, 1, 0, RATE / 256, 1, 1, optimizer=by)
    nothing = np.zeros(adapter.layout.size, dtype=np.float32)  # never written to, so it takes no memory
    replica = Replica(nothing, HadamardPool(4096, 1), coordinates, "hadamard")
    settings = ZerothSettings(build("estimator", estimator, {}), EPSILON, 1e3)
    trainer = ZerothTrainer(adapter, task, replica, settings)
    walk = walk_of(adapter.theta)
    record = Record(replace(job, plan=replace(job.plan, steps=1 << 16)), replica, trainer.settings)
    with torch.no_grad():
        prepared = task.prepare(adapter.model)

    def step() -> None:
        with torch.no_grad():
            trainer.step(walk, record, batch, prepared)

    return step


def two_passes(adapter: Any, task: Any, job: Any, batch: Any) -> Callable[[], object]:
    """What no estimator of two points can do without."""
    import torch

    with torch.no_grad():
        prepared = task.prepare(adapter.model)

    def passes() -> None:
        with torch.no_grad():
            for _ in range(2):
                float(task.outcomes(adapter.model, batch, prepared).losses.mean())

    return passes


def published_step(adapter: Any, task: Any, job: Any, batch: Any) -> Callable[[], object]:
    """MeZO's: the seed is set and every tensor's normal numbers are drawn again for each of four passes."""
    import torch

    parameters = list(adapter.parameters.values())
    with torch.no_grad():
        prepared = task.prepare(adapter.model)

    def loss() -> float:
        return float(task.outcomes(adapter.model, batch, prepared).losses.mean())

    def move(scale: float) -> None:
        torch.manual_seed(5)
        for parameter in parameters:
            z = torch.normal(mean=0.0, std=1.0, size=parameter.size())
            parameter.data.copy_(parameter.data + scale * z)

    def step() -> None:
        with torch.no_grad():
            move(EPSILON)
            first = loss()
            move(-2 * EPSILON)
            scalar = (first - loss()) / (2 * EPSILON)
            move(EPSILON)
            move(-RATE * scalar)

    return step


STEPS: dict[str, Callable[..., Callable[[], object]]] = {
    BARE: two_passes,
    OURS: our_step,
    MOMENTUM: partial(our_step, optimizer="momentum"),
    SLOPE: partial(our_step, estimator="forward-gradient"),
    PUBLISHED: published_step,
}


def _time(kind: str, shape: Shape, repeats: int) -> list[Figure]:
    adapter, task, job, batch = parts(kind, shape)
    contenders = {name: make(adapter, task, job, batch) for name, make in STEPS.items()}
    group = f"{'all weights' if kind == 'full' else 'LoRA'}, a step of {shape}"
    goal = GOALS[kind] if shape == SHAPES[0] else None
    roles: dict[str, Any] = {BARE: "limit", PUBLISHED: "peer"}
    return [
        Figure.of(
            name,
            [1e3 * seconds for seconds in taken],
            "ms",
            group=group,
            role=roles.get(name, "own"),
            goals=[Goal(goal, BARE), Goal(None, PUBLISHED)] if name == OURS else [],
        )
        for name, taken in interleaved(contenders, repeats=repeats).items()
    ]


def _memory(shape: Shape) -> list[Figure]:
    group = f"memory over the loaded model, {shape}"
    weights = 22.7e6
    inference = in_fresh_process(peak_over_model, "full", shape, INFERENCE)
    bound = inference + weights / 8 / 1e6 + 5
    figures = [
        Figure.of(INFERENCE, inference, "MB", group=group, role="limit"),
        Figure.of(
            "all weights, zeroth order",
            in_fresh_process(peak_over_model, "full", shape, OURS),
            "MB",
            group=group,
            goals=[Goal(bound)],
            note="the bound: inference + 1 bit a weight + 5 MB",
        ),
        Figure.of("LoRA, zeroth order", in_fresh_process(peak_over_model, "lora", shape, OURS), "MB", group=group),
        *(
            Figure.of(f"all weights, {name}", in_fresh_process(peak_over_model, "full", shape, name), "MB", group=group)
            for name in (MOMENTUM, SLOPE)
        ),
    ]
    for name, kind in ((PUBLISHED, "full"), (LORA_BACK, "lora"), (FULL_BACK, "full")):
        figures.append(
            Figure.of(name, in_fresh_process(peak_over_model, kind, shape, name), "MB", group=group, role="peer")
        )
    return figures


def peak_over_model(kind: str, shape: Shape, name: str) -> float:
    """MB that a few steps add to the loaded model at the peak."""
    import torch

    from fedpeft.bench.memory import forget_peak, peak_resident, resident

    torch.set_num_threads(1)
    adapter, task, job, batch = parts(kind, shape)
    two_passes(adapter, task, job, batch)()  # what libraries set up once is no step's
    base = resident()
    forget_peak()
    made = STEPS.get(name, two_passes) if name not in (LORA_BACK, FULL_BACK) else _backpropagation
    step = made(adapter, task, job, batch)
    for _ in range(2):
        step()
    return (peak_resident() - base) / 1e6


def _backpropagation(adapter: Any, task: Any, job: Any, batch: Any) -> Callable[[], object]:
    import torch

    parameters = list(adapter.parameters.values())
    optimizer = torch.optim.AdamW(parameters, lr=1e-6)
    prepared = task.prepare(adapter.model).detach()

    def step() -> None:
        optimizer.zero_grad()
        task.outcomes(adapter.model, batch, prepared).losses.mean().backward()
        optimizer.step()

    return step


if __name__ == "__main__":
    sys.exit(main(__file__, measure))
