"""A pruned client's step: time and memory at several ratios, against the full step and against the arithmetic it keeps.

MiniLM with LoRA of rank 8 on every linear layer of its blocks, AdamW, one core, CPU time, contenders taking turns, each
in a process of its own; trainer and kernel as in a run. Memory is the peak of resident pages over the interpreter with
its libraries, in a process that holds the smaller model alone, as a device would that is pruned before it trains.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from typing import Any

from fedpeft.bench import Figure, Goal, interleaved, main, say
from fedpeft.bench.process import Apart, in_fresh_process
from simulations.benchmarks.workload import SHAPES, Shape

RATIOS = (0.0, 0.3, 0.5, 0.7)
CLIENTS = 2
TARGETS = ("query", "key", "value", "attention.output.dense", "intermediate.dense", "output.dense")
AT_MOST = 0.7  # of the full step's time, at a ratio of 0.5


def measure(quick: bool) -> Iterator[Figure]:
    """ms a client step, shares of arithmetic, and MB."""
    for shape in SHAPES[:1] if quick else SHAPES[:2]:
        say(f"{shape}")
        yield from _time(shape, 3 if quick else 11)
    say("memory")
    yield from _memory(SHAPES[0], 3 if quick else 7)


def _name(ratio: float) -> str:
    return f"ratio {ratio:g}" if ratio else "full model"


def _time(shape: Shape, repeats: int) -> list[Figure]:
    group = f"a step of {shape}"
    with ExitStack() as stack:
        contenders: dict[str, Callable[[], object]] = {
            _name(ratio): stack.enter_context(Apart(make_step, ratio, shape)) for ratio in RATIOS
        }
        samples = interleaved(contenders, repeats=repeats)
    figures = []
    for ratio in RATIOS:
        taken = [1e3 * seconds / CLIENTS for seconds in samples[_name(ratio)]]
        goals = [Goal(1 / AT_MOST if ratio == 0.5 else None, _name(0.0))] if ratio else []
        note = f"{in_fresh_process(arithmetic_share, ratio, shape):.2f} of the arithmetic" if ratio else ""
        figures.append(Figure.of(_name(ratio), taken, "ms", group=group, goals=goals, note=note))
    return figures


def _memory(shape: Shape, processes: int) -> list[Figure]:
    group = f"memory of model and step, {shape}"
    figures = []
    for ratio in RATIOS:
        goals = [Goal(1.0, _name(0.0))] if ratio else []
        peaks = [in_fresh_process(peak_of_step, ratio, shape) for _ in range(processes)]
        figures.append(Figure.of(_name(ratio), peaks, "MB", group=group, goals=goals))
    return figures


def _model(ratio: float) -> tuple[Any, Any, Any]:
    """Adapter and task of a client of this ratio, and the full model's pruner."""
    import peft

    from fedpeft.adapters import build_adapter, load_base
    from fedpeft.kernels import choose_kernel, install, keep_freed_memory
    from fedpeft.kernels.install import frozen_matrix
    from fedpeft.pruning.mask import choose
    from fedpeft.pruning.shrink import Pruner
    from fedpeft.training import TaskContext
    from fedpeft.training.tasks.label_names import LabelNames
    from simulations.benchmarks.workload import ALPHA, NAMES, RANK, SOURCE, TEMPERATURE

    keep_freed_memory()
    base = load_base(SOURCE)
    task = LabelNames(TaskContext.of(base, NAMES, temperature=TEMPERATURE, max_length=512))
    config = peft.LoraConfig(r=RANK, lora_alpha=ALPHA, lora_dropout=0.0, target_modules=list(TARGETS))
    adapter = build_adapter(base.model, config, seed=0)
    frozen = [matrix for module in adapter.model.modules() if (matrix := frozen_matrix(module)) is not None]
    shapes = [(matrix.shape[0], matrix.shape[1]) for matrix in frozen]
    kernel = choose_kernel("auto", shapes, dtype=frozen[0].dtype, device="cpu").kernel
    pruner = Pruner(adapter, kernel)
    mask = choose(pruner.magnitudes, pruner.units.sizes, ratio)
    smaller = pruner.shrunk(mask).adapter if mask else adapter
    if not mask:
        install(adapter.model, kernel)
    return smaller, task, pruner


def make_step(ratio: float, shape: Shape) -> Callable[[], object]:
    """One optimizer step of each of a few clients."""
    import torch

    from fedpeft.training.choice import TrainerChoice, make_trainer
    from simulations.benchmarks.workload import PASS_MEMORY, PASS_ROWS, jobs, run_all

    torch.set_num_threads(1)
    adapter, task, _ = _model(ratio)
    trainer = make_trainer(TrainerChoice(True), adapter, task, rows=PASS_ROWS, memory=PASS_MEMORY)
    return partial(run_all, trainer, jobs(adapter, CLIENTS, shape))


def arithmetic_share(ratio: float, shape: Shape) -> float:
    """What `fedpeft.pruning.cost` says of this ratio."""
    from fedpeft.pruning.counting import count_products

    _, _, pruner = _model(0.0)
    counted = count_products(pruner.adapter.model, pruner.anatomy, shape.tokens)
    return counted.share(ratio=ratio)


def peak_of_step(ratio: float, shape: Shape) -> float:
    """MB that model and training take at the peak."""
    import gc

    import torch

    from fedpeft.bench.memory import forget_peak, peak_resident, resident
    from fedpeft.kernels.allocator import release_freed_memory
    from fedpeft.training import SequentialTrainer
    from simulations.benchmarks.workload import jobs, run_all

    torch.set_num_threads(1)
    jobs(_model(0.5)[0], 1, Shape(1, 8))  # what libraries set up once is no model's
    gc.collect()
    release_freed_memory()  # else what the one before had is counted here, and used again below
    base = resident()
    adapter, task, pruner = _model(ratio)
    work = jobs(adapter, 1, shape)
    del pruner
    gc.collect()
    release_freed_memory()
    forget_peak()
    run_all(SequentialTrainer(adapter, task), work)
    return (peak_resident() - base) / 1e6


if __name__ == "__main__":
    sys.exit(main(__file__, measure))
