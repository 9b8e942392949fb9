"""`fedpeft validate FILE`: build everything, run nothing, show the plan."""

from __future__ import annotations

import shlex

from fedpeft.cli.output import Format, FormatOption, console, print_json
from fedpeft.cli.run import EngineOption, FileArgument, NameOption, SetOption, SmokeOption, short_forms


def validate(
    file: FileArgument,
    overrides: SetOption = None,
    smoke: SmokeOption = False,
    name: NameOption = None,
    engine: EngineOption = None,
    format: FormatOption = Format.TEXT,
) -> None:
    """Check a run file: load its model and data, build every part, run nothing, show what it would cost."""
    from fedpeft.config import load_run_file

    config = load_run_file(file, short_forms(overrides, name, engine), smoke=smoke)
    from fedpeft import api
    from fedpeft.cli.tables import plan_table

    plan = api.validate(config)
    if format is Format.JSON:
        print_json(plan.to_payload())
        return
    out = console()
    out.print(plan_table(plan))
    told = [word for text in overrides or () for word in ("--set", text)] + ["--smoke"] * smoke
    told += [word for option, value in (("--name", name), ("--engine", engine)) if value for word in (option, value)]
    out.print(f"{file} can be run: {shlex.join(['fedpeft', 'run', str(file), *told])}", soft_wrap=True)
