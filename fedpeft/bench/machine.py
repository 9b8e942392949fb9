"""On what something was measured: processor, memory, versions, load, and the commit of the checkout."""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

PACKAGES = ("fedpeft", "torch", "numpy", "transformers", "peft", "flwr")


@dataclass(frozen=True, slots=True)
class Machine:
    """A machine and its software."""

    processor: str
    cores: int  # that this process may use
    memory_gb: float  # 10^9 bytes
    system: str
    python: str
    versions: dict[str, str]  # of the packages that matter
    load: float  # running processes in the last minute, as the measurement began


def this_machine(packages: Iterable[str] = PACKAGES) -> Machine:
    """The machine that this process runs on. Imports none of the packages."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return Machine(
        processor=_processor(),
        cores=cores,
        memory_gb=round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 1e9, 1),
        system=f"{platform.system()} {platform.release()}",
        python=platform.python_version(),
        versions={name: found for name in packages if (found := _version(name))},
        load=round(os.getloadavg()[0], 2),
    )


def commit_of(folder: Path) -> str:
    """The git commit of a checkout, with `+` when files differ from it; empty outside of one, or without git."""
    head = _git(folder, "rev-parse", "--short=12", "HEAD")
    return f"{head}+" if head and _git(folder, "status", "--porcelain") else head


def _git(folder: Path, *arguments: str) -> str:
    command = ["git", "--no-optional-locks", "-C", str(folder), *arguments]  # no lock: somebody may be committing
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    named = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
    return named or platform.processor() or platform.machine()


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""
