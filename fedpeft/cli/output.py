"""What all commands share on the way out: consoles, one JSON document, errors in colour, and the session's state."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import pairwise
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

import typer

if TYPE_CHECKING:
    from rich.console import Console


class Format(StrEnum):
    """How a command speaks: to a person, or one JSON document on stdout."""

    TEXT = "text"
    JSON = "json"


FormatOption: TypeAlias = Annotated[
    Format, typer.Option("--format", help="text for people; json: one document on stdout, progress on stderr.")
]


@dataclass(slots=True)
class Session:
    """What one call of the command line needs to know at its end."""

    debug: bool = False  # show tracebacks
    run: str = ""  # what `fedpeft resume` would take, once there is something to resume
    again: str = ""  # of several runs: what goes on with them, in words


def wants_json(arguments: Sequence[str]) -> bool:
    """Whether JSON was asked for, known before parsing: a wrong command line is answered in JSON too."""
    return "--format=json" in arguments or ("--format", "json") in pairwise(arguments)


def console(*, stderr: bool = False) -> Console:
    """A console that prints texts as they are: no markup, no emoji, no guessed colours, nothing cut at the edge."""
    from rich.console import Console

    class Whole(Console):
        def print(self, *objects: Any, crop: bool = False, **options: Any) -> None:
            super().print(*objects, crop=crop, **options)

        def on_broken_pipe(self) -> None:
            raise BrokenPipeError  # `fedpeft.cli.main` says what is to be said

    return Whole(stderr=stderr, markup=False, emoji=False, highlight=False)


def print_json(document: Any) -> None:
    """The one document of `--format json`, on stdout."""
    sys.stdout.write(json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def say_error(code: str, message: str, *, allowed: str | None, remedy: str | None, as_json: bool) -> None:
    """An error: its code and what is wrong in red, what is allowed, what to do; or as JSON on stdout."""
    if as_json:
        print_json({"error": {"code": code, "message": message, "allowed": allowed or None, "do": remedy or None}})
        return
    from rich.text import Text

    text = Text.assemble((f"error[{code}]: ", "bold red"), (message, "red"))
    for name, value in (("allowed", allowed), ("do", remedy)):
        if value:
            text.append(f"\n  {name}: ", style="bold")
            text.append(value)
    console(stderr=True).print(text, soft_wrap=True)
