"""Many clients and many rounds in one process: time and memory.

A thousand clients in every round; ten thousand known of whom a hundred are asked; the memory over 200 rounds. A network
of 16 inputs with LoRA on both layers, five examples a client, one step: the model costs next to nothing, so this is the
federation itself, journal and messages included. Each run is a process of its own; CPU time, except where wall time is
said.
"""

from __future__ import annotations

import sys
import tempfile
import time
from itertools import pairwise
from typing import Any

from fedpeft.bench import Figure, Goal, main, say

FLAT_GOAL = 5.0  # MB of growth over 180 rounds: less than 30 kB a round
KNOWN_GOAL = 0.5  # a round among ten times the clients takes at most twice as long


def measure(quick: bool) -> list[Figure]:
    """ms a client, s a round, MB of growth."""
    from fedpeft.bench.process import in_fresh_process

    many, rounds, long = (200, 2, 40) if quick else (1000, 3, 200)
    say(f"{many} clients, {rounds} rounds")
    crowd = in_fresh_process(federate, many, many, rounds)
    group = f"{many:,} clients, all in each of {rounds} rounds"
    figures = [
        Figure.of("a client and round", [1e3 * s / many for s in crowd["cpu"]], "ms", group=group),
        Figure.of("the whole run, wall time", crowd["wall"], "s", group=group),
    ]
    known = []
    for clients in (many, 10 * many):
        say(f"{clients} clients known, 100 asked")
        known.append(in_fresh_process(federate, clients, 100, 5)["cpu"][1:])
    few, more = f"{many:,} clients known", f"{10 * many:,} clients known"
    group = "a round that asks 100 clients"
    figures += [
        Figure.of(few, [1e3 * s for s in known[0]], "ms", group=group),
        Figure.of(more, [1e3 * s for s in known[1]], "ms", group=group, goals=[Goal(KNOWN_GOAL, few)]),
    ]
    say(f"{long} rounds")
    held = in_fresh_process(federate, 50, 10, long)["resident"]
    growth = (held[-1] - held[long // 10]) / 1e6
    group = f"{long} rounds of 10 clients"
    figures.append(
        Figure.of(
            f"growth from round {long // 10} to {long}",
            max(growth, 0.0),
            "MB",
            group=group,
            goals=[Goal(FLAT_GOAL)],
            note=f"resident memory at the end: {held[-1] / 1e6:.0f} MB",
        )
    )
    return figures


def federate(clients: int, ask: int, rounds: int) -> dict[str, Any]:
    """Run a federation; CPU seconds of each round and resident bytes after it, and the wall seconds of the whole."""
    import peft
    import torch

    from fedpeft import simulate
    from fedpeft.bench.memory import resident

    torch.set_num_threads(1)
    torch.manual_seed(0)
    x = torch.randn(5 * clients, 16)
    y = (x[:, 0] > 0).long()
    items = [(x[i], y[i]) for i in range(len(x))]
    times, held = [time.process_time()], [resident()]

    def observe(event: Any) -> None:
        if event.kind == "committed":
            times.append(time.process_time())
            held.append(resident())

    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        simulate(
            model=torch.nn.Sequential(torch.nn.Linear(16, 16), torch.nn.Tanh(), torch.nn.Linear(16, 2)),
            peft_config=peft.LoraConfig(r=2, target_modules=["0", "2"]),
            clients={f"c{k:05d}": items[5 * k : 5 * k + 5] for k in range(clients)},
            loss=lambda model, batch: torch.nn.functional.cross_entropy(model(batch[0]), batch[1], reduction="none"),
            rounds=rounds,
            ask=ask,
            options={
                "run.folder": folder,
                "evaluation.centralised": False,
                "evaluation.clients": False,
                "local.steps": 1,
                "local.batch_size": 5,
            },
            observers=[observe],
        )
    wall = time.perf_counter() - began
    # Round 0 is the start: greetings and the untrained adapter.
    return {"cpu": [b - a for a, b in pairwise(times[1:])], "resident": held[1:], "wall": wall}


if __name__ == "__main__":
    sys.exit(main(__file__, measure))
