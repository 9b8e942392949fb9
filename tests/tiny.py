"""A federation that trains in milliseconds: a two-layer network with LoRA on both layers, separable data.

`run_tiny(folder)` runs it in this process. As a script it is a run to be killed:

    python tests/tiny.py FOLDER [--resume] [--kill KIND:N] [--set table.key=value ...]

runs it and sends itself SIGKILL right after the N-th event of a kind is on disk; else it prints the adapter's hash.
`start_tiny(folder, ...)` is the same in a process that is forked from a server with everything imported: milliseconds
instead of seconds.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import signal
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

OPTIONS: dict[str, Any] = {
    "local.steps": 3,
    "local.batch_size": 8,
    "local.learning_rate": 0.02,
    "run.seed": 3,
    "evaluation.centralised": False,
}


def tiny_data(clients: int = 5, features: int = 16) -> tuple[dict[str, list[Any]], list[Any]]:
    """Per client 24 examples of two classes, told apart by a plane; and 64 for the test."""
    import torch

    generator = torch.Generator().manual_seed(11)
    plane = torch.randn(features, generator=generator)
    x = torch.randn(clients * 24 + 64, features, generator=generator)
    y = (x @ plane > 0).long()
    items = [(x[i], y[i]) for i in range(len(x))]
    return {f"c{k:02d}": items[k * 24 : (k + 1) * 24] for k in range(clients)}, items[clients * 24 :]


def tiny_arguments(folder: Path, *, clients: int = 5, rounds: int = 4, ask: int = 3, **options: Any) -> dict[str, Any]:
    """Keyword arguments of `fedpeft.simulate`; `options` with `__` for the dot."""
    import peft
    import torch

    torch.manual_seed(5)
    model = torch.nn.Sequential(torch.nn.Linear(16, 16), torch.nn.Tanh(), torch.nn.Linear(16, 2))
    train, test = tiny_data(clients)
    own = {key.replace("__", "."): value for key, value in options.items()}
    return {
        "model": model,
        "peft_config": peft.LoraConfig(r=2, lora_alpha=4, target_modules=["0", "2"]),
        "clients": train,
        "client_test": {client: data[:8] for client, data in train.items()},
        "test": test,
        "loss": lambda m, batch: torch.nn.functional.cross_entropy(m(batch[0]), batch[1], reduction="none"),
        "correct": lambda m, batch: m(batch[0]).argmax(1) == batch[1],
        "name": "tiny",
        "rounds": rounds,
        "ask": ask,
        "options": {**OPTIONS, "run.folder": str(folder), **own},
    }


def run_tiny(folder: Path, *, resume: bool = False, observers: Any = (), strategy: Any = None, **options: Any) -> Any:
    """Run the federation; returns its `RunResult`."""
    from fedpeft import simulate

    return simulate(**tiny_arguments(folder, **options), resume=resume, observers=observers, strategy=strategy)


class Stop(Exception):
    """Ends a run in this process, as far as its journal is concerned like a kill."""


def stop_at(kind: Any, count: int) -> Any:
    """An observer that raises `Stop` right after the N-th event of a kind is on disk."""
    left = [count]

    def observe(event: Any) -> None:
        left[0] -= event.kind is kind
        if event.kind is kind and left[0] == 0:
            raise Stop

    return observe


def killer(kill: str) -> Any:
    """An observer that sends SIGKILL to its own process right after the N-th event of a kind, given as `KIND:N`."""
    kind, _, count = kill.partition(":")
    left = int(count or 0)

    def observe(event: Any) -> None:
        nonlocal left
        if kind and event.kind == kind:
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    return observe


def start_tiny(folder: Path, *, kill: str = "", **options: Any) -> multiprocessing.process.BaseProcess:
    """Start the federation in a process of its own: call `join`, or `kill` it; options as of `run_tiny`."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["torch", "peft", "fedpeft.api", "fedpeft.simulation.local"])
    process = context.Process(target=_work, args=(folder, kill, options))
    process.start()
    return process


def _work(folder: Path, kill: str, options: dict[str, Any]) -> None:
    run_tiny(folder, observers=[killer(kill)], **options)


def _main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--resume", action="store_true")
    parser.add_argument("--kill", default="")
    parser.add_argument("--set", action="append", default=[])
    arguments = parser.parse_args()
    options: Mapping[str, Any] = {
        key: tomllib.loads(f"v = {value}")["v"] for key, _, value in (pair.partition("=") for pair in arguments.set)
    }
    result = run_tiny(
        arguments.folder,
        resume=arguments.resume,
        observers=[killer(arguments.kill)],
        **{key.replace(".", "__"): value for key, value in options.items()},
    )
    print(result.adapter_hash)


if __name__ == "__main__":
    _main()
