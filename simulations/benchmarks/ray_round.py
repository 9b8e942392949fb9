"""Clients a second on two cores: two of our processes against Flower on Ray.

The same MiniLM clients, 32 a round, one step each. Flower runs ServerApp, FedAvg and two Ray actors of one core, the
model loaded once in each actor (peers/flower_minilm.py). Ours are two processes of one thread that each train half of
the cohort, many clients at once, and a parent that sends them the adapter and averages their deltas. Wall time of whole
rounds; what starts the processes is left out on both sides (Ray takes 6 to 10 s).
"""

from __future__ import annotations

import multiprocessing
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from fedpeft.bench import Figure, Goal, PeerMissing, Peers, main, say
from simulations.benchmarks.workload import SHAPES, Shape

PEERS = ("flower",)
CLIENTS, WORKERS = 32, 2
GOALS = dict(zip(SHAPES, (1.9, 2.8, 6.8), strict=True))
FLOWER, OURS, OURS_BF16 = "Flower, two Ray actors", "ours, two processes, fp32", "ours, two processes, bf16 base"


WHY = "each of the two processes has only 16 clients to put into a pass, and renews the embeddings of the label names"


def measure(quick: bool) -> Iterator[Figure]:
    """Clients a second of wall time."""
    turns, rounds = (1, 2) if quick else (3, 4)
    for shape in SHAPES:
        contenders: dict[str, Callable[[], list[float]]] = {
            FLOWER: partial(rounds_of_flower, shape, rounds),
            OURS: partial(rounds_of_ours, shape, "fp32", 2 * rounds),
            OURS_BF16: partial(rounds_of_ours, shape, "bf16", 2 * rounds),
        }
        goals = {OURS: [Goal(GOALS[shape], FLOWER, why=WHY)], OURS_BF16: [Goal(None, FLOWER)]}
        rates, missing = _take_turns(contenders, turns, f"{shape}")
        for name in contenders:
            about: dict[str, Any] = {
                "group": f"MiniLM, {shape} a client, {CLIENTS} clients a round",
                "better": "higher",
                "role": "peer" if name == FLOWER else "own",
                "goals": goals.get(name, ()),
            }
            if name in missing:
                yield Figure.missing(name, missing[name], "clients/s", **about)
            else:
                yield Figure.of(name, rates[name], "clients/s", **about)


def _take_turns(
    contenders: dict[str, Callable[[], list[float]]], turns: int, what: str
) -> tuple[dict[str, list[float]], dict[str, str]]:
    """Clients a second of each contender's rounds, and why others have none. Turns, since wall time drifts."""
    rates: dict[str, list[float]] = {name: [] for name in contenders}
    missing: dict[str, str] = {}
    for turn in range(turns):
        for name, contender in contenders.items():
            if name in missing:
                continue
            say(f"{what}: {name} ({turn + 1} of {turns})")
            try:
                rates[name] += [CLIENTS / seconds for seconds in contender()]
            except (PeerMissing, RuntimeError) as why:
                missing[name] = str(why).splitlines()[0]
    return rates, missing


def rounds_of_flower(shape: Shape, rounds: int) -> list[float]:
    """Wall seconds of each round but the first.

    Raises:
        PeerMissing: Flower cannot be run; says why.
    """
    import numpy as np

    from simulations.benchmarks.workload import TEMPERATURE, label_embeddings, text_rows

    with tempfile.TemporaryDirectory() as scratch:
        file = Path(scratch) / "tokens.npz"
        ids, labels = text_rows(CLIENTS, shape)
        np.savez(file, ids=ids, labels=labels, names=TEMPERATURE * label_embeddings().numpy())
        arguments = {"tokens": file, "clients": CLIENTS, "rounds": rounds}
        peers = Peers(Path(__file__).parent / "peers")
        said = peers.run("flower", "flower_minilm.py", arguments, timeout=120 + 30 * rounds)
    return [float(seconds) for seconds in said["seconds"]]


def rounds_of_ours(shape: Shape, dtype: str, rounds: int) -> list[float]:
    """Wall seconds of each round but the first.

    Raises:
        RuntimeError: a worker failed; its message.
    """
    import numpy as np

    context = multiprocessing.get_context("spawn")
    pipes, processes = [], []
    try:
        for worker in range(WORKERS):
            here, there = context.Pipe()
            process = context.Process(target=work, args=(there, shape, dtype, worker))
            process.start()
            there.close()
            pipes.append(here)
            processes.append(process)
        theta, *_ = [_hear(pipe) for pipe in pipes]
        seconds = []
        for _ in range(rounds + 1):
            began = time.perf_counter()
            for pipe in pipes:
                pipe.send(theta)
            total = np.sum([_hear(pipe) for pipe in pipes], axis=0)
            theta = theta + total / CLIENTS
            seconds.append(time.perf_counter() - began)
        return seconds[1:]
    finally:
        for pipe, process in zip(pipes, processes, strict=True):
            pipe.close()
            process.join()


def _hear(pipe: Any) -> Any:
    try:
        said = pipe.recv()
    except EOFError:
        raise RuntimeError("a worker ended early") from None
    if isinstance(said, str):
        raise RuntimeError(said)
    return said


def work(pipe: Any, shape: Shape, dtype: str, worker: int) -> None:
    """A worker: says θ_0, then turns each θ into the sum of its clients' deltas, until the parent hangs up."""
    from dataclasses import replace

    import numpy as np
    import torch

    from simulations.benchmarks.workload import encoder, jobs, run_all, together

    torch.set_num_threads(1)
    try:
        adapter, task = encoder(dtype)
        own = jobs(adapter, CLIENTS, shape)[worker::WORKERS]
        trainer = together(adapter, task, own[0])
        pipe.send(own[0].start)
        while True:
            theta = pipe.recv()
            pipe.send(np.sum(run_all(trainer, [replace(job, start=theta) for job in own]), axis=0))
    except EOFError:
        return
    except Exception as error:
        pipe.send(str(error).splitlines()[0])


if __name__ == "__main__":
    sys.exit(main(__file__, measure))
