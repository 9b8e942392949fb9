"""One client's training step: ours against HF peft client by client, and against the products.

MiniLM with LoRA of rank 8 on query and value, AdamW, one core, CPU time; contenders take turns, each in a process of
its own. A step holds all that a client costs: its adapter is loaded, one batch goes forward and back, the optimizer
steps, the result is taken out. The limits are the matrix products of the step's linear layers and nothing else, at the
rows of one fused pass. Also the memory at the peak over the loaded model, and a causal language model (Llama, 58M
random parameters, vocabulary 32,000).
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from typing import Any, TypeAlias

from fedpeft.bench import Figure, Goal, interleaved, main, say
from fedpeft.bench.process import Apart, in_fresh_process
from simulations.benchmarks.workload import PASS_ROWS, SHAPES, Shape

Contenders: TypeAlias = dict[str, tuple[Callable[[], object], int]]
"""Name -> the work of one sample, and the clients in it."""

CLIENTS = {SHAPES[0]: 16, SHAPES[1]: 32, SHAPES[2]: 64}
GOALS = {SHAPES[0]: (1.8, 3.6), SHAPES[1]: (2.3, 4.5), SHAPES[2]: (3.7, 6.7)}  # fp32, bf16
LLAMA_SHAPE, LLAMA_CLIENTS, LLAMA_GOALS = Shape(2, 64), 16, (2.0, 3.5)
PEFT, ALONE = "HF peft, client by client", "ours, client by client"
BATCHED, BATCHED_BF16 = "ours, many at once, fp32", "ours, many at once, bf16 base"
MEMORY_GOAL = 0.3  # GB over the base


WHY_BF16 = "a third of a pass is GELU, norms, softmax and copies, which gain little from bf16"


def measure(quick: bool) -> Iterator[Figure]:
    """ms a client step, and GB over the base."""
    import torch

    torch.set_num_threads(1)
    for shape in SHAPES:
        say(f"{shape}")
        yield from _steps(shape, CLIENTS[shape] // (4 if quick else 1), 2 if quick else 7)
    for shape in SHAPES[:1] if quick else SHAPES:
        say(f"{shape}: memory")
        yield from _memory(shape)
    say("causal language model")
    yield from _causal(2 if quick else 5)


def _steps(shape: Shape, clients: int, repeats: int) -> list[Figure]:
    from fedpeft.bench.limits import KERNELS, MINILM, products
    from simulations.benchmarks.workload import plain_peft

    few = max(2, clients // 8)
    rows = max(1, min(clients, PASS_ROWS // (shape.examples * shape.tokens)))
    tokens = rows * shape.examples * shape.tokens
    fp32, bf16 = GOALS[shape]
    goals = {
        ALONE: [Goal(None, PEFT)],
        BATCHED: [Goal(fp32, PEFT), Goal(None, "limit: oneDNN fp32")],
        BATCHED_BF16: [Goal(bf16, PEFT, why=WHY_BF16), Goal(None, "limit: torch bf16")],
    }
    with ExitStack() as stack:
        contenders: Contenders = {
            PEFT: (stack.enter_context(Apart(plain_peft, few, shape)), few),
            ALONE: (stack.enter_context(Apart(make_alone, few, shape)), few),
            BATCHED: (stack.enter_context(Apart(make_together, clients, shape, "fp32")), clients),
            BATCHED_BF16: (stack.enter_context(Apart(make_together, clients, shape, "bf16")), clients),
        }
        contenders |= {f"limit: {kernel}": (products(kernel, tokens, MINILM), rows) for kernel in KERNELS}
        return _figures(contenders, goals, f"MiniLM, {shape} a step", repeats)


def make_alone(clients: int, shape: Shape) -> Callable[[], object]:
    """Our trainer of one client after the other, on the plain model."""
    from fedpeft.training import SequentialTrainer
    from simulations.benchmarks.workload import encoder, jobs, run_all

    adapter, task = encoder()
    return partial(run_all, SequentialTrainer(adapter, task), jobs(adapter, clients, shape))


def make_together(clients: int, shape: Shape, dtype: str) -> Callable[[], object]:
    """Our trainer of many clients."""
    from simulations.benchmarks.workload import encoder, jobs, run_all, together

    adapter, task = encoder(dtype)
    work = jobs(adapter, clients, shape)
    return partial(run_all, together(adapter, task, work[0]), work)


def _figures(contenders: Contenders, goals: dict[str, list[Goal]], group: str, repeats: int) -> list[Figure]:
    troubles = {name: trouble for name, (work, _) in contenders.items() if (trouble := _trouble(work))}
    working = {name: work for name, (work, _) in contenders.items() if name not in troubles}
    samples = interleaved(working, repeats=repeats)
    figures = []
    for name, (_, clients) in contenders.items():
        role: Any = "limit" if name.startswith("limit") else "peer" if name == PEFT else "own"
        own = goals.get(name, ())
        if name in troubles:
            figures.append(Figure.missing(name, troubles[name], "ms", group=group, role=role, goals=own))
        else:
            taken = [1e3 * seconds / clients for seconds in samples[name]]
            figures.append(Figure.of(name, taken, "ms", group=group, role=role, goals=own))
    return figures


def _trouble(work: Callable[[], object]) -> str:
    """Why a contender cannot run here, e.g. a kernel that this build of torch lacks; the call also warms it up."""
    try:
        work()
    except (RuntimeError, AttributeError, NotImplementedError) as error:
        return str(error).splitlines()[0]
    return ""


def _memory(shape: Shape) -> list[Figure]:
    group = f"memory over the base, 64 clients of {shape}"
    figures = []
    for name, goals in ((ALONE, []), (BATCHED, [Goal(MEMORY_GOAL)]), (BATCHED_BF16, [Goal(MEMORY_GOAL)])):
        try:
            peak = in_fresh_process(peak_over_base, shape, name)
            figures.append(Figure.of(name, peak, "GB", group=group, goals=goals))
        except RuntimeError as error:
            reason = str(error).splitlines()[0]
            figures.append(Figure.missing(name, reason, "GB", group=group, role="own", goals=goals))
    return figures


def peak_over_base(shape: Shape, name: str) -> float:
    """GB that training 64 clients adds to the loaded model, packed weights included in the model, at the peak."""
    from fedpeft.bench.memory import forget_peak, peak_resident, resident
    from fedpeft.training import SequentialTrainer
    from simulations.benchmarks.workload import encoder, jobs, run_all, together

    adapter, task = encoder("bf16" if name == BATCHED_BF16 else "fp32")
    work = jobs(adapter, 64, shape)
    trainer = SequentialTrainer(adapter, task) if name == ALONE else together(adapter, task, work[0])
    base = resident()
    forget_peak()
    run_all(trainer, work)
    return (peak_resident() - base) / 1e9


def _causal(repeats: int) -> list[Figure]:
    from simulations.benchmarks.causal import llama_peft

    few = 4
    goals = {name: [Goal(at, PEFT)] for name, at in zip((BATCHED, BATCHED_BF16), LLAMA_GOALS, strict=True)}
    with ExitStack() as stack:
        contenders: Contenders = {
            PEFT: (stack.enter_context(Apart(llama_peft, few, LLAMA_SHAPE)), few),
            BATCHED: (stack.enter_context(Apart(make_llama, "fp32")), LLAMA_CLIENTS),
            BATCHED_BF16: (stack.enter_context(Apart(make_llama, "bf16")), LLAMA_CLIENTS),
        }
        return _figures(contenders, goals, f"causal Llama 58M, {LLAMA_SHAPE} a step", repeats)


def make_llama(dtype: str) -> Callable[[], object]:
    """Our trainer of many clients on the causal model."""
    from simulations.benchmarks.causal import llama_adapter, llama_jobs, llama_task
    from simulations.benchmarks.workload import run_all, together

    adapter, task = llama_adapter(dtype), llama_task()
    work = llama_jobs(adapter, LLAMA_CLIENTS, LLAMA_SHAPE)
    return partial(run_all, together(adapter, task, work[0]), work)


if __name__ == "__main__":
    sys.exit(main(__file__, measure))
