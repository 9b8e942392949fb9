"""Other people's software to be measured beside ours, each in a virtual environment of its own.

A folder of peers holds `NAME.txt`, pinned requirements, and the scripts that run on them; a script's last line on
stdout is one JSON document. Environments lie in the user's cache, under a name that changes with the requirements, and
are built on first use. One that cannot be built leaves its reason behind; whoever asks for it gets that reason.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

_SWITCH = "FEDPEFT_BENCH_PEERS"
_READY, _TROUBLE = "ready", "trouble.txt"
_OFFLINE = {
    "HF_HUB_OFFLINE": "1",
    "FLWR_TELEMETRY_ENABLED": "0",
    "FLWR_DISABLE_UPDATE_CHECK": "1",
    "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
    "TOKENIZERS_PARALLELISM": "false",
}


class PeerMissing(Exception):
    """A peer cannot be measured here; the message is the reason, in one line."""


def environment(**more: str) -> dict[str, str]:
    """The environment of a measured process: one thread, nothing asked of any hub, no telemetry."""
    return {**os.environ, "OMP_NUM_THREADS": "1", **_OFFLINE, **more}


def leave_out() -> dict[str, str]:
    """What to add to the environment of a benchmark that is to run without peers."""
    return {_SWITCH: "0"}


class Peers:
    """The peers whose requirements and scripts lie in one folder.

    Args:
        folder: holds `NAME.txt` and the scripts.
        cache: where environments are built; default: `fedpeft/peers` in the user's cache.
    """

    def __init__(self, folder: Path, cache: Path | None = None) -> None:
        self.folder = folder
        root = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
        self.cache = cache or Path(root) / "fedpeft" / "peers"

    def home(self, name: str) -> Path:
        """The folder of a peer's environment, whether it is there or not.

        Raises:
            PeerMissing: nobody wrote its requirements.
        """
        try:
            requirements = (self.folder / f"{name}.txt").read_bytes()
        except OSError as error:
            raise PeerMissing(f"its requirements {self.folder / name}.txt cannot be read: {error.strerror}") from error
        major, minor = sys.version_info[:2]
        digest = hashlib.sha256(requirements).hexdigest()[:8]
        return self.cache / f"{name}-{digest}-py{major}.{minor}"

    def ready(self, name: str) -> bool:
        """Whether the environment is built."""
        return (self.home(name) / _READY).exists()

    def build(self, name: str) -> None:
        """Build the environment with pip, unless it is there; minutes, and up to gigabytes, for the large ones.

        Raises:
            PeerMissing: pip or venv failed; the reason is kept for `python`.
        """
        home = self.home(name)
        if self.ready(name):
            return
        shutil.rmtree(home, ignore_errors=True)
        pip = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        try:
            home.mkdir(parents=True)
            _run([sys.executable, "-m", "venv", str(home)])
            _run([str(_interpreter(home)), *pip, "-r", str(self.folder / f"{name}.txt")])
        except (OSError, subprocess.CalledProcessError) as error:
            reason = _reason(error)
            shutil.rmtree(home, ignore_errors=True)
            home.mkdir(parents=True, exist_ok=True)
            (home / _TROUBLE).write_text(reason, encoding="utf-8")
            raise PeerMissing(f"it could not be installed: {reason}") from error
        (home / _READY).touch()

    def python(self, name: str) -> Path:
        """The interpreter of a peer's environment.

        Raises:
            PeerMissing: with the reason: left out, not installed, or not installable.
        """
        if os.environ.get(_SWITCH) == "0":
            raise PeerMissing("left out (--no-peers)")
        home = self.home(name)
        if self.ready(name):
            return _interpreter(home)
        trouble = home / _TROUBLE
        if trouble.exists():
            raise PeerMissing(f"it could not be installed: {trouble.read_text(encoding='utf-8')}")
        raise PeerMissing("not installed; fedpeft bench --peers builds its environment")

    def run(self, name: str, script: str, arguments: Mapping[str, object], *, timeout: float) -> Any:
        """Run a script of the folder on a peer's interpreter.

        Args:
            name: of the peer.
            script: file name in the folder.
            arguments: passed as `--key value`.
            timeout: seconds after which it is given up.

        Returns:
            the JSON value of its last line.

        Raises:
            PeerMissing: it is not there, failed, took too long, or its last line is no JSON.
        """
        options = [part for key, value in arguments.items() for part in (f"--{key}", str(value))]
        command = [str(self.python(name)), str(self.folder / script), *options]
        own = environment(PYTHONPATH=str(self.folder))  # scripts share modules, with the processes that they start too
        for strange in ("PYTHONHOME", "VIRTUAL_ENV"):
            own.pop(strange, None)
        try:
            said = _run(command, env=own, timeout=timeout)
            return json.loads((said.strip().splitlines() or [""])[-1])
        except subprocess.TimeoutExpired as error:
            raise PeerMissing(f"{script} took more than {timeout:.0f} s") from error
        except (OSError, subprocess.CalledProcessError, ValueError) as error:
            raise PeerMissing(f"{script} failed: {_reason(error)}") from error


def _interpreter(home: Path) -> Path:
    return home / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def _run(command: list[str], *, env: Mapping[str, str] | None = None, timeout: float | None = None) -> str:
    """Run to the end; what it wrote to stdout. Whatever ends it early ends all the processes that it started too."""
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True, env=env
    ) as process:
        try:
            said, complained = process.communicate(timeout=timeout)
        except BaseException:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            raise
    if process.returncode != 0:
        raise subprocess.CalledProcessError(process.returncode, command, said, complained)
    return said


def _reason(error: BaseException) -> str:
    """The last line of what a process complained about."""
    said = getattr(error, "stderr", None) or str(error)
    return next((line.strip() for line in reversed(said.splitlines()) if line.strip()), type(error).__name__)[:300]
