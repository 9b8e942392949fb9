"""Processes that end with this one, however it ends.

Each is told to end when the household is closed, and killed when it does not; should this process be killed, each sees
the end of its standard input (see `watched`). What they say goes to a log file each.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from fedpeft.errors import RoundError

ENDING_S = 15.0
"""Seconds that a process may take to end when it is told to: a client's training is not interrupted."""

TOLD = 3
"""Lines of a log that an error quotes."""


@dataclass
class Member:
    """One process."""

    name: str  # for people, e.g. "the SuperLink"
    process: subprocess.Popen[bytes]
    log: Path

    @property
    def last_words(self) -> str:
        """The end of its log."""
        with suppress(OSError):
            lines = [line.strip() for line in self.log.read_text(errors="replace").splitlines() if line.strip()]
            return " / ".join(lines[-TOLD:])
        return ""


class Household:
    """The processes of a run.

    Args:
        folder: for their logs; created.
        environment: beside this process's own.
    """

    def __init__(self, folder: Path, environment: Mapping[str, str]) -> None:
        self.folder = folder
        programs = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
        self.environment = {**os.environ, "PATH": programs, **environment}  # Flower looks for its own programs there
        self.members: list[Member] = []

    def __enter__(self) -> Self:
        """Itself, empty."""
        self.folder.mkdir(parents=True, exist_ok=True)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End all: first those that were started later, all at once, then what they rest on, the first."""
        for members in (self.members[1:], self.members[:1]):
            for member in members:
                if member.process.poll() is None:
                    member.process.terminate()
            for member in members:
                _await_end(member)
        self.members.clear()

    def start(
        self, name: str, command: Sequence[str], log: str, environment: Mapping[str, str] | None = None
    ) -> Member:
        """Start an installed command.

        Args:
            name: for people.
            command: its name and arguments.
            log: name of its log file.
            environment: beside the household's.

        Raises:
            RoundError: it cannot be started.
        """
        path = self.folder / log
        try:
            with path.open("ab") as file:
                process = subprocess.Popen(
                    [sys.executable, "-m", "fedpeft.simulation.engines.watched", *command],
                    stdin=subprocess.PIPE,
                    stdout=file,
                    stderr=subprocess.STDOUT,
                    env={**self.environment, **(environment or {})},
                    start_new_session=True,  # Ctrl-C is for this process, which then ends the others in order
                )
        except OSError as error:
            raise RoundError(
                f"{name} could not be started: {error}", code="engine.process", remedy="free some memory"
            ) from error
        member = Member(name, process, path)
        self.members.append(member)
        return member

    @property
    def is_whole(self) -> bool:
        """Whether all of them are alive."""
        return all(member.process.poll() is None for member in self.members)

    def check(self) -> None:
        """Raise `RoundError` when one of them has ended."""
        for member in self.members:
            code = member.process.poll()
            if code is not None:
                raise RoundError(
                    f"{member.name} ended with exit code {code}: {member.last_words or 'it said nothing'}",
                    code="engine.process",
                    remedy=f"look into {member.log}; what was committed stays: fedpeft resume goes on from there",
                )

    def await_port(self, port: int, seconds: float) -> None:
        """Wait until somebody listens on a port of loopback.

        Raises:
            RoundError: nobody does in time, or a process has ended.
        """
        deadline = time.monotonic() + seconds
        while True:
            self.check()
            with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1.0):
                return
            if time.monotonic() > deadline:
                member = self.members[-1]
                raise RoundError(
                    f"{member.name} does not listen on port {port} after {seconds:g} s: {member.last_words}",
                    code="engine.process",
                    remedy=f"look into {member.log}",
                )
            time.sleep(0.05)


def free_port() -> int:
    """A port of loopback that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _await_end(member: Member) -> None:
    process = member.process
    try:
        process.wait(ENDING_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    if process.stdin is not None:
        process.stdin.close()
