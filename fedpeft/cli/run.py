"""`fedpeft run FILE`: the plan, one bar, the result, the paths."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

import typer

from fedpeft.cli.output import Format, FormatOption, Session, console, print_json
from fedpeft.paths import run_argument

if TYPE_CHECKING:
    from fedpeft.report.summary import RunResult

FileArgument: TypeAlias = Annotated[Path, typer.Argument(help="A run file (TOML), e.g. one of simulations/.")]
SetOption: TypeAlias = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="TABLE.KEY=VALUE", help="Override a key of the run file; may be given often."),
]
SmokeOption: TypeAlias = Annotated[
    bool, typer.Option("--smoke", help="A few seconds, to see that it works; the figures mean nothing.")
]
NameOption: TypeAlias = Annotated[
    str | None, typer.Option("--name", help="Name of the run and its folder; instead of run.name.")
]
EngineOption: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--engine", help="local, ray, flower or superlink; instead of engine.name. See simulations/ENGINES.md."
    ),
]


SeedsOption: TypeAlias = Annotated[
    str | None,
    typer.Option("--seeds", metavar="1,2,3", help="Run it once a seed, as NAME-seed1, ...; prints mean and interval."),
]
VaryOption: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        "--vary",
        metavar="TABLE.KEY=A,B",
        help="Run it once a value, as NAME-A, ...; given twice, once a combination. With --seeds, once a seed too.",
    ),
]


def run(
    context: typer.Context,
    file: FileArgument,
    overrides: SetOption = None,
    smoke: SmokeOption = False,
    fresh: Annotated[bool, typer.Option("--fresh", help="Remove an earlier run of the same name first.")] = False,
    name: NameOption = None,
    engine: EngineOption = None,
    seeds: SeedsOption = None,
    vary: VaryOption = None,
    format: FormatOption = Format.TEXT,
) -> None:
    """Run a federation to its end; everything it makes goes to runs/NAME."""
    from fedpeft.config import load_run_file

    session, short = context.ensure_object(Session), short_forms(overrides, name, engine)
    if seeds is not None or vary:
        from fedpeft.cli.seeds import parse_seeds, run_all, with_seeds
        from fedpeft.cli.vary import contenders, parse_vary

        configs = contenders(file, short, [parse_vary(text) for text in vary or ()], smoke=smoke)
        wanted = with_seeds(configs, None if seeds is None else parse_seeds(seeds))
        run_all(session, wanted, fresh=fresh, format=format)
        return
    config = load_run_file(file, short, smoke=smoke)
    from fedpeft import api

    def work(**watching: Any) -> RunResult:
        return api.run(config, fresh=fresh, **watching)

    perform(session, config.folder, config.run.rounds, work, format)


def short_forms(overrides: Sequence[str] | None, name: str | None, engine: str | None) -> list[str]:
    """The overrides, with `--name` and `--engine` among them."""
    short = {"run.name": name, "engine.name": engine}
    return [*(overrides or ()), *(f"{key}={json.dumps(value)}" for key, value in short.items() if value is not None)]


def perform(
    session: Session,
    folder: Path,
    rounds: int,
    work: Callable[..., RunResult],
    format: Format,
    *,
    resumed: bool = False,
) -> None:
    """Do the work of `run` or `resume` with a screen around it.

    Args:
        session: told the run as soon as there is something to resume.
        folder: of the run.
        rounds: of the run file.
        work: called with `observers`, `on_plan` and `on_progress`.
        format: what the result is printed as; with JSON everything else goes to stderr.
        resumed: the journal already holds a part of the run.
    """
    from fedpeft.cli.progress import Screen
    from fedpeft.cli.tables import plan_table, print_result
    from fedpeft.journal import Event
    from fedpeft.report.summary import RunPlan

    screen = Screen(console(stderr=format is Format.JSON), rounds, folder if resumed else None)

    def started(_: Event) -> None:
        session.run = run_argument(folder)

    def show_plan(plan: RunPlan) -> None:
        screen.console.print(plan_table(plan))

    with screen:
        result = work(observers=[started, screen.observe], on_plan=show_plan, on_progress=screen.progress)
    if format is Format.JSON:
        print_json(result.to_json())
    else:
        print_result(screen.console, result)
