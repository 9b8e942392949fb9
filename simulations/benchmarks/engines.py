"""What an engine adds to a round: the same run on each, with next to nothing to train.

Four clients of assistant.toml, all asked in each round, one step on one text; frames of the real size (300 kB down, 350
kB up). A round is the wall time from its opening to its commit, as the journal has it: asking, carrying, training,
folding, writing. The start is the time from the call to the opening of the first round: model and data, and whatever
the engine starts. Each engine runs in a process of its own. On `local` all four clients share a pass; elsewhere agents
or actors are one.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from fedpeft.bench import Figure, main, say
from fedpeft.bench.process import in_fresh_process

RUN_FILE = Path(__file__).parents[1] / "assistant.toml"
CLIENTS, ROUNDS, FEW = 4, 7, 3
ENGINES: dict[str, dict[str, Any]] = {
    "local": {"engine.name": "local"},
    "ray": {"engine.name": "ray"},
    "flower": {"engine.name": "flower"},
    "superlink, one agent": {"engine.name": "superlink"},
    "superlink, stock SuperNodes": {"engine.name": "superlink", "engine.nodes": "stock"},
}
A_ROUND, START = "a round", "from the call to the first round"


def measure(quick: bool) -> list[Figure]:
    """Seconds of wall time."""
    rounds: list[Figure] = []
    starts: list[Figure] = []
    for name, options in ENGINES.items():
        if quick and "stock" in name:
            continue
        say(name)
        start, taken = in_fresh_process(run, options, FEW if quick or "stock" in name else ROUNDS)
        # The first round of a process also pays for what loads lazily.
        rounds.append(Figure.of(name, taken[1:], "s", group=A_ROUND, note=f"the first one {taken[0]:.2f} s"))
        starts.append(Figure.of(name, start, "s", group=START))
    return [*rounds, *starts]


def run(options: dict[str, Any], rounds: int) -> tuple[float, list[float]]:
    """Seconds to the first round, and of each round."""
    from fedpeft import api
    from fedpeft.config import load_run_file
    from fedpeft.journal import Event, EventKind

    opened: list[float] = []
    committed: list[float] = []

    def observe(event: Event) -> None:
        if event.kind is EventKind.ROUND_OPENED:
            opened.append(event.at)
        elif event.kind is EventKind.COMMITTED and event.round:
            committed.append(event.at)

    with tempfile.TemporaryDirectory() as folder:
        began = time.time()
        config = load_run_file(RUN_FILE, {**SMALL, "run.folder": folder, "run.rounds": rounds, **options})
        api.run(config, observers=[observe])
    return opened[0] - began, [after - before for before, after in zip(opened, committed, strict=True)]


SMALL: dict[str, Any] = {
    "devices": [{"name": "phone", "clients": CLIENTS, "step_seconds": 0.01}],
    "round.ask": CLIENTS,
    "round.over_select": 0,
    "local.steps": 1,
    "local.batch_size": 1,
    "codec.up": "int8",
    "evaluation.every": 1000,
    "evaluation.test_examples": 32,
    "evaluation.clients": False,
    "evaluation.centralised": False,
    "faults": [],
}


if __name__ == "__main__":
    sys.exit(main(__file__, measure))
