"""Every error a person can meet: what is wrong, what is allowed, what to do.

One class per kind of trouble, each with a stable code (`config.unknown-key`), so that a script can match it and a
reader can look it up. The command line prints the message and exits with `exit_status`; a traceback needs `--debug`.
"""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


class FedpeftError(Exception):
    """The root of all errors that fedpeft raises on purpose.

    Args:
        message: what is wrong, naming the key or the client and its value.
        code: a stable dotted name, e.g. `config.unknown-key`.
        allowed: what would have been accepted.
        remedy: what to do next, as an instruction.
    """

    exit_status = 1

    def __init__(self, message: str, *, code: str, allowed: str | None = None, remedy: str | None = None) -> None:
        self.message = message
        self.code = code
        self.allowed = allowed
        self.remedy = remedy
        super().__init__(self.render())

    def locate(self, where: str) -> None:
        """Put in front of the message where the fault is: a key of the run file, one of several runs."""
        self.message = f"{where}: {self.message}"
        self.args = (self.render(),)

    def render(self) -> str:
        """The whole error as plain text, one fact a line."""
        lines = [self.message]
        if self.allowed:
            lines.append(f"  allowed: {self.allowed}")
        if self.remedy:
            lines.append(f"  do: {self.remedy}")
        return "\n".join(lines)


class ConfigError(FedpeftError):
    """A run file, an option or an argument that cannot be run."""

    exit_status = 2


class DataError(FedpeftError):
    """Data that is missing, empty or malformed; names the file and, where there is one, the line."""

    exit_status = 3


class ModelError(FedpeftError):
    """A base model or an adapter that cannot be loaded or does not fit."""

    exit_status = 4


class PluginError(FedpeftError):
    """A strategy, codec, objective or partitioner that cannot be found or does not keep its contract."""

    exit_status = 5


class RoundError(FedpeftError):
    """A round that could not be completed, e.g. because no client answered."""

    exit_status = 6


class JournalError(FedpeftError):
    """A run folder that cannot be read or written: disk full, read-only, corrupt, in use."""

    exit_status = 7


class ClientFault(FedpeftError):
    """One client's fault: it costs that client its place in the round, never the round.

    Raised by the guards and by local training; the coordinator turns it into a `refused` event that names the client.
    """

    exit_status = 8


def closest(value: str, known: Iterable[str]) -> str | None:
    """A remedy that names the nearest known word: `did you mean "fedavg"?`, or None when nothing is near."""
    found = get_close_matches(value, list(known), n=1, cutoff=0.5)
    return f'did you mean "{found[0]}"?' if found else None
