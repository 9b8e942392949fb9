"""Kill a run with SIGKILL at a random moment, resume it, and see whether the adapter is the same, bit by bit.

    python simulations/benchmarks/kill_and_resume.py --times 50 --seed 0

The federation is that of tests/tiny.py, made longer: FedAvg, int8 with error feedback up, versioned int8 down, so that
both sides keep state that must survive. Each time a fresh run is killed at a moment drawn from its whole life, start of
the interpreter included, and finished with `--resume`. Prints how many of the hashes equal that of an uninterrupted
run; exit status 1 if one does not. Takes about 15 seconds a time on one core, two thirds of it for importing torch.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

ROOT = Path(__file__).resolve().parents[2]
RUN = [sys.executable, str(ROOT / "tests" / "tiny.py")]
OPTIONS = ["--set", "rounds=12", "--set", 'codec.up="int8"', "--set", 'codec.down="int8"']
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}


def finish(folder: Path, *, resume: bool) -> str:
    """Run to the end; the adapter's sha256 hex.

    Raises:
        RuntimeError: the run ended with an error; quotes its last line.
    """
    command = [*RUN, str(folder), *OPTIONS, *(["--resume"] if resume else [])]
    done = subprocess.run(command, capture_output=True, text=True, env=ENVIRONMENT, check=False)
    if done.returncode != 0:
        raise RuntimeError((done.stderr.strip().splitlines() or ["no output"])[-1])
    return done.stdout.strip()


def kill(folder: Path, seconds: float) -> bool:
    """Start a run and kill it after `seconds`; False when it was over before."""
    with subprocess.Popen(
        [*RUN, str(folder), *OPTIONS], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=ENVIRONMENT
    ) as run:
        time.sleep(seconds)
        run.kill()
    return run.returncode < 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit status."""
    parser = argparse.ArgumentParser(description="Kill runs at random moments and resume them.")
    parser.add_argument("--times", type=int, default=50, help="kills (default: 50)")
    parser.add_argument("--seed", type=int, default=0, help="of the moments (default: 0)")
    options = parser.parse_args(arguments)
    if options.times < 1:
        parser.error(f"--times {options.times}: at least 1")
    rng, console = random.Random(options.seed), Console()
    scratch = Path(tempfile.mkdtemp(prefix="kill-and-resume-"))
    equal, hit, trouble = 0, 0, []
    bar = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    try:
        with Progress(*bar, console=console) as progress:
            task = progress.add_task("the uninterrupted run", total=options.times)
            began = time.monotonic()
            expected = finish(scratch / "whole", resume=False)
            life = time.monotonic() - began
            for index in range(options.times):
                folder, moment = scratch / str(index), rng.uniform(0, life)
                progress.update(task, description=f"killed after {moment:4.1f} s of {life:.1f} s; {equal} equal so far")
                hit += kill(folder, moment)
                started = (folder / "tiny" / "journal.sqlite").exists()
                try:
                    found = finish(folder, resume=started)
                except RuntimeError as error:
                    found = str(error)
                if found == expected:
                    equal += 1
                    shutil.rmtree(folder)
                else:
                    trouble.append(f"killed after {moment:.2f} s: {found}; left in {folder}")
                progress.advance(task)
    finally:
        if not trouble:
            shutil.rmtree(scratch, ignore_errors=True)
    console.print(f"{equal} of {options.times} resumed runs ended with the adapter {expected[:16]}…")
    console.print(f"{hit} of them were still running when they were killed")
    for line in trouble:
        console.print(line, soft_wrap=True)
    return 0 if equal == options.times else 1


if __name__ == "__main__":
    sys.exit(main())
