"""Benchmarks and measurements that take no time, for the tests of the frame."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from fedpeft.bench.figure import Figure, Goal
from fedpeft.bench.machine import Machine
from fedpeft.bench.results import Measurement

MACHINE = Machine("a processor", 2, 16.0, "Linux 6", "3.11.7", {"torch": "2.13.0"}, 0.5)

FAST = '''"""Counts to a thousand, against a peer that counts backwards."""

import sys

from fedpeft.bench import Figure, Goal, PeerMissing, Peers, main, say
from pathlib import Path

PEERS = ("counter",)


def measure(quick):
    say("counting")
    try:
        seconds = Peers(Path(__file__).parent / "peers").run("counter", "count.py", {"to": 3}, timeout=60)["seconds"]
        peer = Figure.of("backwards", seconds, "s", role="peer")
    except PeerMissing as why:
        peer = Figure.missing("backwards", why, "s")
    return [peer, Figure.of("forwards", [1.0, 1.1, 0.9] if quick else [2.0], "s", goals=[Goal(1.5, "backwards")])]


if __name__ == "__main__":
    sys.exit(main(__file__, measure))
'''

BROKEN = '''"""Fails."""

import sys

from fedpeft.bench import main


def measure(quick):
    raise RuntimeError("no such luck")


if __name__ == "__main__":
    sys.exit(main(__file__, measure))
'''

READER = '''"""Reads as many bytes as a file has, and another."""

import sys
from pathlib import Path

from fedpeft.bench import Figure, main


def measure(quick, delta: Path | None = None, *, since: Path | None = None):
    read = [0 if path is None else path.stat().st_size for path in (delta, since)]
    return [Figure.of("read", float(sum(read)), "bytes")]


if __name__ == "__main__":
    sys.exit(main(__file__, measure))
'''

PEER = """import argparse, json

parser = argparse.ArgumentParser()
parser.add_argument("--to", type=int)
print("noise before the result")
print(json.dumps({"seconds": [parser.parse_args().to]}))
"""


def write_checkout(root: Path, **files: str) -> Path:
    """A folder like a checkout, with these benchmarks (name -> text)."""
    folder = root / "simulations" / "benchmarks"
    (folder / "peers").mkdir(parents=True)
    for name, text in files.items():
        (folder / f"{name}.py").write_text(text)
    (folder / "peers" / "counter.txt").write_text("# nothing but the standard library\n")
    (folder / "peers" / "count.py").write_text(PEER)
    return folder


def figures(own: float = 1.0, peer: float = 2.0, scatter: float = 0.0) -> tuple[Figure, ...]:
    """A contender of ours against one peer and a limit, and a figure of ours alone."""

    def around(value: float) -> list[float]:
        return [value * (1 - scatter), value, value * (1 + scatter)]

    return (
        Figure.of("theirs", around(peer), "ms", group="a step", role="peer"),
        Figure.of("ours", around(own), "ms", group="a step", goals=[Goal(1.8, "theirs"), Goal(None, "the limit")]),
        Figure.of("the limit", around(0.5), "ms", group="a step", role="limit"),
        Figure.of("memory", around(0.2), "GB", goals=[Goal(0.3)]),
    )


def measurement(subject: str = "step", found: tuple[Figure, ...] | None = None, **more: Any) -> Measurement:
    """A measurement as a run would leave it."""
    plain = Measurement(
        subject=subject,
        about="A step of <something> & more.",
        began=datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
        seconds=12.5,
        quick=False,
        commit="0123456789ab",
        machine=MACHINE,
        figures=figures() if found is None else found,
    )
    return replace(plain, **more)


def make_counter(start: int) -> Any:
    """Work for three calls; raises in the fourth."""
    if start < 0:
        raise ValueError("start is negative\nand more")
    numbers = iter(range(start, start + 3))
    return lambda: next(numbers)
