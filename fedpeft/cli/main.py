"""The entry point: all commands under one name, and every error as a message and an exit code.

Exit codes: 0 done; 1 `doctor` found something broken, or nobody read the output; 2 to 8 an error of `fedpeft.errors`
(each class has its own; 2 is also a wrong command line); 70 a bug; 130 interrupted.
"""

from __future__ import annotations

import os
import signal
import sys
import traceback
from collections.abc import Sequence
from typing import Annotated

import click
import typer

from fedpeft.cli import (
    agent,
    bench,
    compare,
    doctor,
    evaluate,
    export,
    listing,
    new,
    report,
    resume,
    run,
    show,
    validate,
)
from fedpeft.cli.output import Session, print_json, say_error, wants_json
from fedpeft.errors import FedpeftError
from fedpeft.version import __version__

UNHEARD, BUG, INTERRUPTED = 1, 70, 130

app = typer.Typer(
    name="fedpeft",
    help="Federated parameter-efficient fine-tuning: one frozen base model, only small things on the wire.",
    no_args_is_help=True,
    add_completion=False,
    suggest_commands=False,  # click does
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("run")(run.run)
app.command("validate")(validate.validate)
app.command("resume")(resume.resume)
app.command("agent")(agent.agent)
app.command("ls")(listing.ls)
app.command("show")(show.show)
app.command("compare")(compare.compare)
app.command("report")(report.report)
app.command("evaluate")(evaluate.evaluate)
app.command("export")(export.export)
app.add_typer(new.app, name="new")
app.command("doctor")(doctor.doctor)
app.command("bench")(bench.bench)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"fedpeft {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    context: typer.Context,
    debug: Annotated[
        bool, typer.Option("--debug", envvar="FEDPEFT_DEBUG", help="Show the traceback of an error.")
    ] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and leave.")
    ] = False,
) -> None:
    context.ensure_object(Session).debug = debug


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and leave the process with its exit code.

    Args:
        arguments: without the program's name; default: those of this process.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C: what a command has started ends with it
    sys.exit(perform(given, Session()))


def perform(arguments: list[str], session: Session) -> int:
    """Run one command; returns its exit code and lets no exception out."""
    as_json = wants_json(arguments)
    if "--debug" in arguments:  # wherever it stands: it is added last, to a command that has just failed
        arguments = ["--debug", *(word for word in arguments if word != "--debug")]
    command = typer.main.get_command(app)
    try:  # not `command.main`, which keeps an interrupt to itself
        with command.make_context("fedpeft", arguments, obj=session) as context:
            command.invoke(context)
        sys.stdout.flush()
        return 0
    except click.exceptions.Exit as leave:
        return leave.exit_code
    except FedpeftError as error:
        _trace(session)
        say_error(error.code, error.message, allowed=error.allowed, remedy=error.remedy, as_json=as_json)
        return error.exit_status
    except click.ClickException as error:
        if as_json:
            print_json({"error": {"code": "usage", "message": error.format_message(), "allowed": None, "do": None}})
        else:
            error.show()
        return error.exit_code
    except (KeyboardInterrupt, click.Abort):
        _trace(session)
        remedy = f"fedpeft resume {session.run}" if session.run else session.again or None
        if as_json:
            say_error("interrupted", "interrupted", allowed=None, remedy=remedy, as_json=True)
        else:
            named = f"`{remedy}`" if session.run else remedy
            typer.echo("interrupted" + (f"; {named} goes on" if remedy else ""), err=True)
        return INTERRUPTED
    except BrokenPipeError:  # the reader has seen enough, e.g. `fedpeft ls | head -1`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # nothing to trip over at exit
        if session.run:
            typer.echo(f"interrupted: nobody reads the output; `fedpeft resume {session.run}` goes on", err=True)
        return UNHEARD
    except Exception as error:
        _trace(session)
        remedy = "this is a bug: run with --debug and report what it prints"
        message = " ".join(f"{type(error).__name__}: {error}".split())
        say_error("bug", message, allowed=None, remedy=remedy, as_json=as_json)
        return BUG


def _trace(session: Session) -> None:
    if session.debug:
        traceback.print_exc()


if __name__ == "__main__":
    main()
