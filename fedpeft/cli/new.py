"""`fedpeft new strategy NAME`: a plug-in that works, and its test, to start from."""

from __future__ import annotations

import keyword
import re
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Annotated

import typer

from fedpeft.cli.output import Format, FormatOption, print_json
from fedpeft.errors import ConfigError

app = typer.Typer(help="Start a plug-in of your own.", no_args_is_help=True, context_settings={})


@app.callback()
def _new() -> None:
    """Keeps `strategy` a command of its own while it is the only one."""


@app.command("strategy")
def strategy(
    name: Annotated[str, typer.Argument(help="Name of the file and the class, e.g. my_rule.")],
    folder: Annotated[Path, typer.Option("--dir", help="Where to write; created.")] = Path(),
    format: FormatOption = Format.TEXT,
) -> None:
    """Write NAME.py, a strategy that works as it is, and test_NAME.py, which tests it; neither replaces a file."""
    module = re.sub(r"[\s-]+", "_", name.strip()).lower()
    if not module.isidentifier() or keyword.iskeyword(module):
        raise ConfigError(
            f'"{name}" cannot name a Python file and class',
            code="new.name",
            allowed="letters, digits, - and _, beginning with a letter",
            remedy="choose such a name, e.g. my_rule",
        )
    title = "".join(word.capitalize() for word in module.split("_"))
    written = [
        (folder / f"{module}.py", "strategy.py.template"),
        (folder / f"test_{module}.py", "test_strategy.py.template"),
    ]
    for path, _ in written:
        if path.exists():
            raise ConfigError(
                f"{path} exists", code="new.exists", remedy="choose another name or --dir, or remove the file"
            )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for path, template in written:
            text = (files("fedpeft.cli") / "templates" / template).read_text(encoding="utf-8")
            path.write_text(Template(text).substitute(module=module, title=title), encoding="utf-8")
    except OSError as error:
        raise ConfigError(
            f"{folder} cannot be written: {error}", code="new.not-written", remedy="choose another --dir"
        ) from error
    plugin, test = (path for path, _ in written)
    if format is Format.JSON:
        print_json({"plugin": str(plugin), "test": str(test), "name": f"{plugin}:{title}"})
        return
    typer.echo(f"{plugin}\n{test}")
    typer.echo(f"try it: pytest {test}")
    typer.echo(f'use it: fedpeft run FILE --set strategy.name="{plugin.resolve()}:{title}"')
