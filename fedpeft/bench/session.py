"""Measure one subject after the other, each in a fresh process: none inherits another's memory, threads or caches."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime
from pathlib import Path

from fedpeft.bench.command import SAYING, given_text
from fedpeft.bench.machine import commit_of, this_machine
from fedpeft.bench.peers import environment, leave_out
from fedpeft.bench.results import Measurement, load
from fedpeft.bench.subjects import Subject, checkout
from fedpeft.errors import DataError

_REMEMBERED = 20  # lines of what a process said last
_PATIENCE = 10.0  # seconds that an interrupted benchmark has to end by itself


def measure_subject(
    subject: Subject,
    *,
    quick: bool,
    peers: bool,
    given: Mapping[str, Path] | None = None,
    on_say: Callable[[str], None] = lambda what: None,
) -> Measurement:
    """Run a benchmark file in a process of its own.

    Args:
        subject: what to measure.
        quick: fewer repeats.
        peers: measure those that are installed; without, they are reported as left out.
        given: paths by the options that they are given as; it gets those that it takes.
        on_say: told what is being measured now.

    Returns:
        the measurement; one that failed holds the last line of what the process said.
    """
    machine, began, clock = this_machine(), datetime.now().astimezone(), time.monotonic()
    own_given = {name: path for name, path in (given or {}).items() if name in subject.takes}
    options = [part for name, path in own_given.items() for part in (f"--{name}", str(path))]
    paths = [str(checkout() or ""), os.environ.get("PYTHONPATH", "")]  # benchmarks import what they share from the root
    own = environment(PYTHONPATH=os.pathsep.join(filter(None, paths)), **({} if peers else leave_out()))
    with tempfile.TemporaryDirectory(prefix="fedpeft-bench-") as scratch:
        file = Path(scratch) / "measurement.json"
        command = [sys.executable, str(subject.path), "--json", str(file), *options, *(["--quick"] if quick else [])]
        status, last = _watch(command, own, on_say)
        failure = ""
        if file.exists():
            try:
                [measured] = load(file).measurements
                return replace(measured, subject=subject.name)
            except (DataError, ValueError) as error:
                failure = str(error).splitlines()[0]
    return Measurement(
        subject=subject.name,
        about=subject.about,
        began=began,
        seconds=round(time.monotonic() - clock, 1),
        quick=quick,
        commit=commit_of(subject.path.resolve().parent),
        machine=machine,
        figures=(),
        failure=failure or last or f"it ended with status {status}",
        given=given_text(own_given),
    )


def _watch(command: list[str], own: dict[str, str], on_say: Callable[[str], None]) -> tuple[int, str]:
    """Run to the end; the exit status and the last line of stderr that was not meant for the bar."""
    heard: deque[str] = deque(maxlen=_REMEMBERED)
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=own) as process:
        try:
            assert process.stderr is not None
            for line in process.stderr:
                if line.startswith(SAYING):
                    on_say(line.removeprefix(SAYING).strip())
                elif line.strip():
                    heard.append(line.strip())
        except BaseException:
            process.send_signal(signal.SIGINT)  # it ends what it has started, peers among them
            try:
                process.wait(_PATIENCE)
            except subprocess.TimeoutExpired:
                process.kill()
            raise
    return process.returncode, heard[-1] if heard else ""
