"""What starting costs: imports, and from the call to the first training step.

Each import runs in a new interpreter, contenders in turn, after one round that warms the disk cache; CPU seconds of
the child, its threads included, and its resident memory after the import. Then `fedpeft.simulate` on a tiny federation:
the time from the call, everything imported, to the first training step.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from typing import Any

from fedpeft.bench import Figure, Goal, main, say
from fedpeft.bench.peers import environment

STATEMENTS = {
    "import fedpeft": "import fedpeft",
    "fedpeft --help": "import contextlib, io\nfrom fedpeft.cli.main import perform, Session\n"
    "with contextlib.redirect_stdout(io.StringIO()):\n    perform(['--help'], Session())",
    "import fedpeft.api": "import fedpeft.api",
    "all that a run imports": "import fedpeft.simulation.federation, fedpeft.simulation.run",
    "python": "pass",
    "import numpy": "import numpy",
    "import torch": "import torch",
    "import flwr.clientapp": "import flwr.clientapp",
    "torch, transformers, peft, flwr": "import torch, transformers, peft, flwr.clientapp\n"
    "from transformers import AutoModel",
}
OWN = ("import fedpeft", "fedpeft --help", "import fedpeft.api", "all that a run imports")
ORDINARY = "torch, transformers, peft, flwr"
FIRST_ROUND_GOAL = 1.0  # s
TIMES, MEMORY, START = "imports, CPU time", "imports, resident memory", "from the call to the first training step"

PROBE = """
{statement}
import json, os, resource
used = resource.getrusage(resource.RUSAGE_SELF)
pages = int(open("/proc/self/statm").read().split()[1])
print(json.dumps([used.ru_utime + used.ru_stime, pages * os.sysconf("SC_PAGE_SIZE")]))
"""


def measure(quick: bool) -> list[Figure]:
    """Seconds and MB."""
    repeats = 1 if quick else 5
    seconds: dict[str, list[float]] = {name: [] for name in STATEMENTS}
    megabytes: dict[str, list[float]] = {name: [] for name in STATEMENTS}
    for turn in range(repeats + 1):
        for name, statement in STATEMENTS.items():
            say(f"{name} ({turn} of {repeats})")
            taken, held = _probe(statement)
            if turn:
                seconds[name].append(taken)
                megabytes[name].append(held / 1e6)
    figures = []
    for group, unit, samples in ((TIMES, "s", seconds), (MEMORY, "MB", megabytes)):
        for name, values in samples.items():
            own = name in OWN
            goals = [Goal(None, ORDINARY)] if own else []
            figures.append(Figure.of(name, values, unit, group=group, role="own" if own else "peer", goals=goals))
    say("to the first training step")
    return [*figures, *_first_step(2 if quick else 7)]


def _probe(statement: str) -> tuple[float, int]:
    code = PROBE.format(statement=statement)
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment(), cwd="/"
    )
    taken, held = json.loads(done.stdout.strip().splitlines()[-1])
    return taken, held


def _first_step(times: int) -> list[Figure]:
    """Wall time: it holds the waiting for the disk. The first call of a process also pays for what loads lazily."""
    from fedpeft.bench.process import in_fresh_process

    taken = in_fresh_process(first_steps, times)
    return [
        Figure.of("first call of a process", taken[0], "s", group=START, goals=[Goal(FIRST_ROUND_GOAL)]),
        Figure.of("later calls", taken[1:], "s", group=START, goals=[Goal(FIRST_ROUND_GOAL)]),
    ]


def first_steps(times: int) -> list[float]:
    """Seconds from `simulate` to the first loss of its first round, so many times.

    What the plan measures before it is no step of training.
    """
    import peft
    import torch

    import fedpeft.simulation.federation
    import fedpeft.simulation.run  # noqa: F401
    from fedpeft import simulate
    from fedpeft.journal import Event, EventKind

    torch.set_num_threads(1)
    reached: list[float] = []
    opened: list[Event] = []

    def watch(event: Event) -> None:
        if event.kind is EventKind.ROUND_OPENED:
            opened.append(event)

    def loss(model: Any, batch: Any) -> torch.Tensor:
        if opened and torch.is_grad_enabled():
            reached.append(time.perf_counter())
        return torch.nn.functional.cross_entropy(model(batch[0]), batch[1], reduction="none")

    x = torch.randn(400, 16)
    items = [(row, int(row[0] > 0)) for row in x]
    found = []
    for _ in range(times):
        reached.clear()
        opened.clear()
        with tempfile.TemporaryDirectory() as folder:
            began = time.perf_counter()
            simulate(
                model=torch.nn.Sequential(torch.nn.Linear(16, 16), torch.nn.Tanh(), torch.nn.Linear(16, 2)),
                peft_config=peft.LoraConfig(r=2, target_modules=["0", "2"]),
                clients={f"c{k:02d}": items[20 * k : 20 * k + 20] for k in range(20)},
                loss=loss,
                rounds=1,
                observers=[watch],
                options={"run.folder": folder, "evaluation.centralised": False},
            )
        found.append(reached[0] - began)
    return found


if __name__ == "__main__":
    sys.exit(main(__file__, measure))
