"""A run on some engine in a process of its own, to be killed: `python tests/engine_run.py RUN_FILE --engine superlink`.

Prints a JSON object a line: `{"processes": [...]}` when it kills, `{"adapter": ...}` at its end or `{"error": CODE}`.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any


def descendants(process: int) -> list[int]:
    """All processes below one, as /proc tells."""
    parents: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                parents[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            except (OSError, IndexError, ValueError):
                continue
    found = [process]
    for one in found:
        found += [child for child, parent in parents.items() if parent == one]
    return found[1:]


def is_alive(process: int) -> bool:
    """Whether it runs; a zombie that nobody has waited for does not."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def alive_after(processes: list[int], seconds: float) -> list[int]:
    """Those that still run when the time is up; returns as soon as none does."""
    deadline = time.monotonic() + seconds
    while (left := [one for one in processes if is_alive(one)]) and time.monotonic() < deadline:
        time.sleep(0.1)
    return left


def start(run_file: Path, engine: str, name: str, *more: str) -> tuple[list[dict[str, Any]], int]:
    """Run it to its end, or to its death; what it printed, and its exit code."""
    command = [sys.executable, __file__, str(run_file), "--engine", engine, "--name", name, *more]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert done.stdout, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()], done.returncode


def _killer(kill: str, victim: str) -> Any:
    kind, _, count = kill.partition(":")
    left = int(count or 0)

    def observe(event: Any) -> None:
        nonlocal left
        left -= event.kind == kind
        if kind and event.kind == kind and left == 0:
            family = descendants(os.getpid())
            print(json.dumps({"processes": family}), flush=True)
            if victim == "self":
                os.kill(os.getpid(), signal.SIGKILL)
            for one in family:
                if victim in Path(f"/proc/{one}/cmdline").read_text().split("\0"):
                    os.kill(one, signal.SIGKILL)

    return observe


def _main() -> None:
    from fedpeft import api
    from fedpeft.config import load_run_file
    from fedpeft.errors import FedpeftError

    parser = argparse.ArgumentParser()
    parser.add_argument("run_file", type=Path)
    parser.add_argument("--engine", required=True)
    parser.add_argument("--name", required=True)
    parser.add_argument("--resume", action="store_true")
    parser.add_argument("--kill", default="")
    parser.add_argument("--victim", default="self")
    options = parser.parse_args()
    config = load_run_file(options.run_file, {"run.name": options.name, "engine.name": options.engine})
    observers = [_killer(options.kill, options.victim)]
    try:
        if options.resume:
            result = api.resume(config.folder, observers=observers)
        else:
            result = api.run(config, observers=observers)
    except FedpeftError as error:
        print(json.dumps({"error": error.code, "message": error.message}))
    else:
        print(json.dumps({"adapter": result.adapter_hash}))


if __name__ == "__main__":
    _main()
