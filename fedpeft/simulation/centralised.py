"""The comparison every federated result stands beside: one adapter, all the data in one place, as many example passes.

`python -m fedpeft.simulation.centralised RUN_FOLDER PASSES ROUNDS` trains it in a process of its own and leaves
`centralised.json` in the run's folder. That process ends as soon as its standard input does: whoever started it holds
the other end, so it never outlives a run that was killed.

Same base, adapter, optimizer and batch size; the learning rate is its own where the run file says so: one optimizer
over all the data wants smaller steps than many short ones that are averaged. It follows the schedule of the rounds: its
n-th part trains at the factor of round n. The optimizer keeps its moments, and what a task prepares (label embeddings)
is renewed as often as a federated round would.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import subprocess
import sys
import threading
import tomllib
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from fedpeft.adapters.seeded import seeded_torch
from fedpeft.config import parse_config
from fedpeft.evaluation import Evaluation
from fedpeft.paths import write_atomically
from fedpeft.randomness.streams import derive_seed
from fedpeft.registry import load
from fedpeft.server.schedules import load_schedule
from fedpeft.simulation.federation import Federation, assemble
from fedpeft.training import batch_order, gradient_step
from fedpeft.training.objectives.plain import Plain
from fedpeft.training.steps import StepSettings
from fedpeft.types import ClientId, Plan

RESULT = "centralised.json"
LOG = "centralised.log"


def train_centralised(
    federation: Federation, passes: int, rounds: int, on_examples: Callable[[int], None] | None = None
) -> tuple[Evaluation, int]:
    """Train on the pooled data of all clients for about `passes` examples, then evaluate on the test set.

    Args:
        federation: its adapter is trained from θ_0, and left trained.
        passes: examples to pass; the last batch is whole.
        rounds: that the federated run has for as many passes, fewer than its run file asks for if it was stopped: the
            learning rate follows the schedule of these rounds. 0 = all that are asked for.
        on_examples: called with the examples of each step, for progress.

    Returns:
        the evaluation, and the examples really passed.
    """
    config, adapter, task = federation.config, federation.adapter, federation.task
    local = config.local
    pooled = task.pool(list(federation.train.values()))
    steps = max(1, -(-passes // local.batch_size))
    rounds = rounds or config.run.rounds
    plan = Plan(
        run=config.run.name,
        round=0,
        attempt=0,
        client=ClientId("centralised"),
        seed=derive_seed(config.run.seed, "centralised"),
        steps=steps,
        batch_size=local.batch_size,
        learning_rate=config.evaluation.centralised_learning_rate or local.learning_rate,
        weight_decay=local.weight_decay,
        optimizer=local.optimizer,
    )
    adapter.set(federation.initial)
    optimizer = load("optimizer", plan.optimizer)([adapter.theta], plan)
    start, objective, settings = adapter.theta.clone(), Plain(), StepSettings.of(local)
    renewal = max(1, steps // rounds)
    schedule, full = load_schedule(config), [group["lr"] for group in optimizer.param_groups]
    prepared: Any = None
    done = 0
    lengths = getattr(pooled, "lengths", None)
    try:
        with seeded_torch(plan.seed, adapter.theta.device):  # dropout
            for step, indices in enumerate(batch_order(plan.seed, len(pooled), local.batch_size, steps, lengths)):
                if step % renewal == 0:
                    adapter.train(False)  # what a task prepares, it prepares without dropout
                    prepared = task.prepare(adapter.model)
                    adapter.train(True)
                factor = schedule(1 + step * rounds // steps, config.run.rounds)
                for group, rate in zip(optimizer.param_groups, full, strict=True):
                    group["lr"] = rate * factor
                batch = settings.batch(task, pooled, indices)
                gradient_step(
                    adapter, task, batch, prepared, optimizer, objective, start, local.max_grad_norm, settings
                )
                done += len(indices)
                if on_examples is not None:
                    on_examples(len(indices))
    finally:
        adapter.train(False)
    return federation.evaluate(adapter.get(), federation.test), done


class CentralisedProcess:
    """The comparison as a child process. It ends with its parent, however that ends.

    Args:
        folder: of the run; holds `run.toml`.
        passes: examples to pass.
        rounds: of the federated run, see `train_centralised`.
    """

    def __init__(self, folder: Path, passes: int, rounds: int = 0) -> None:
        self.folder = folder
        self.passes = passes
        self.rounds = rounds
        self.done = 0
        self.trouble = ""  # why there is no result, once it has ended without one
        self._process: subprocess.Popen[str] | None = None
        self._reader: threading.Thread | None = None

    def start(self) -> None:
        """Start, unless the result is already there. One that cannot be started costs the run nothing."""
        if self.result() is not None:
            self.done = self.passes
            return
        try:
            numbers = [str(self.passes), str(self.rounds)]
            with (self.folder / LOG).open("w", encoding="utf-8") as log:
                self._process = subprocess.Popen(
                    [sys.executable, "-m", "fedpeft.simulation.centralised", str(self.folder), *numbers],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=log,
                    text=True,
                )
        except OSError as error:
            self.trouble = f"it could not be started: {error}"
            return
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def wait(self, seconds: float) -> bool:
        """Wait up to `seconds`; True when it has ended."""
        if self._process is None:
            return True
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            return False
        if self._reader is not None:
            self._reader.join()
        if self._process.returncode < 0:
            self.trouble = f"it was killed by signal {-self._process.returncode}"
        elif self._process.returncode > 0:
            self.trouble = f"exit status {self._process.returncode}: {self._last_words()}"
        return True

    def stop(self) -> None:
        """End it, if it still runs."""
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()
            self._process.wait()
        if self._reader is not None:
            self._reader.join()
        for pipe in (self._process.stdin, self._process.stdout) if self._process is not None else ():
            if pipe is not None:
                pipe.close()

    def result(self) -> tuple[Evaluation, int] | None:
        """What it left behind: the evaluation and the examples passed; None when there is nothing sound."""
        try:
            table = json.loads((self.folder / RESULT).read_text(encoding="utf-8"))
            if table["wanted"] != self.passes or table["run"] != _digest(self.folder):
                return None
            found = Evaluation(table["accuracy"], table["loss"], table["examples"], table.get("metrics", {}))
            return found, table["passes"]
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def _last_words(self) -> str:
        try:
            lines = (self.folder / LOG).read_text(encoding="utf-8", errors="replace").strip().splitlines()
        except OSError as error:
            return str(error)
        return lines[-1] if lines else "no output"

    def _read(self) -> None:
        assert self._process is not None
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.strip().isdigit():
                self.done = min(int(line), self.passes)


def _digest(folder: Path) -> str:
    """Of the run file: a result that lies there may be of another run, whose journal somebody removed."""
    return hashlib.sha256((folder / "run.toml").read_bytes()).hexdigest()


def _end_with_parent() -> None:
    """Wait for the end of standard input, then end this process at once, whatever it is doing."""
    while os.read(0, 1):  # not sys.stdin: Python aborts at its end if a thread holds the lock of a stream
        pass
    os._exit(1)


def main(arguments: list[str]) -> int:
    """Entry point of the child process."""
    folder, passes, rounds = Path(arguments[0]), int(arguments[1]), int(arguments[2])
    threading.Thread(target=_end_with_parent, daemon=True).start()
    config = parse_config(tomllib.loads((folder / "run.toml").read_text(encoding="utf-8")), origin="run.toml")
    federation = assemble(config)
    done = 0

    def tell(examples: int) -> None:
        nonlocal done
        done += examples
        sys.stdout.write(f"{done}\n")
        sys.stdout.flush()

    evaluation, count = train_centralised(federation, passes, rounds, tell)
    if not math.isfinite(evaluation.loss):
        sys.stderr.write(f"it diverged: the loss on the test set is {evaluation.loss}\n")
        return 1
    table = asdict(evaluation) | {"passes": count, "wanted": passes, "run": _digest(folder)}
    write_atomically(folder / RESULT, json.dumps(table).encode())
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
