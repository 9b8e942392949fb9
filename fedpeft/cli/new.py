"""`fedpeft new strategy|codec|partitioner|scheduler NAME`: a plug-in that works, and its test, to start from."""

from __future__ import annotations

import importlib.machinery
import keyword
import os
import re
import shlex
import sys
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Annotated

import typer

from fedpeft.cli.output import Format, FormatOption, print_json
from fedpeft.errors import ConfigError

app = typer.Typer(help="Start a plug-in of your own.", no_args_is_help=True, context_settings={})

Name = Annotated[str, typer.Argument(help="Name of the file and of what is in it, e.g. my_rule.")]
Folder = Annotated[Path, typer.Option("--dir", help="Where to write; created.")]

USES = {
    "strategy": 'strategy={ name = "$name" }',
    "codec": 'codec.up="$name"',
    "partitioner": 'data.partition={ name = "$name" }',
    "scheduler": 'scheduler={ name = "$name", arms = { steps = [4, 8] } }',
}
"""What sets each kind in a run file: all of its table, where it has parameters that are those of another plug-in."""


@app.command("strategy")
def strategy(name: Name, folder: Folder = Path(), format: FormatOption = Format.TEXT) -> None:
    """Write NAME.py, a strategy that works as it is, and test_NAME.py, which holds it to the contract of a strategy.

    Neither replaces a file. The test needs pytest: pip install pytest.
    """
    _start("strategy", name, folder, format)


@app.command("codec")
def codec(name: Name, folder: Folder = Path(), format: FormatOption = Format.TEXT) -> None:
    """Write NAME.py, a codec that works as it is, and test_NAME.py, its test.

    Neither replaces a file. The test needs pytest: pip install pytest.
    """
    _start("codec", name, folder, format)


@app.command("partitioner")
def partitioner(name: Name, folder: Folder = Path(), format: FormatOption = Format.TEXT) -> None:
    """Write NAME.py, a partitioner that works as it is, and test_NAME.py, its test.

    Neither replaces a file. The test needs pytest: pip install pytest.
    """
    _start("partitioner", name, folder, format)


@app.command("scheduler")
def scheduler(name: Name, folder: Folder = Path(), format: FormatOption = Format.TEXT) -> None:
    """Write NAME.py, a scheduler that works as it is, and test_NAME.py, its test.

    Neither replaces a file. The test needs pytest: pip install pytest.
    """
    _start("scheduler", name, folder, format)


def _start(kind: str, name: str, folder: Path, format: Format) -> None:
    """Write the two files of a kind.

    Raises:
        ConfigError: the name cannot name a Python file, a file is there already, or the folder cannot be written.
    """
    module = re.sub(r"[\s-]+", "_", name.strip()).lower()
    title = "".join(word.capitalize() for word in module.split("_"))
    if any(not one.isidentifier() or keyword.iskeyword(one) for one in (module, title)):
        raise ConfigError(
            f'"{name}" cannot name a Python file and class',
            code="new.name",
            allowed="letters, digits, - and _, beginning with a letter",
            remedy="choose such a name, e.g. my_rule",
        )
    if _is_module(module):
        raise ConfigError(
            f'"{name}" is the name of an installed module, which {module}.py would hide from its own test',
            code="new.name",
            allowed="a name that nothing else has",
            remedy=f"e.g. my_{module}",
        )
    written = [
        (folder / f"{module}.py", f"{kind}.py.template"),
        (folder / f"test_{module}.py", f"test_{kind}.py.template"),
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
    attribute = module if kind == "partitioner" else title  # a function, or a class
    if format is Format.JSON:
        print_json({"plugin": str(plugin), "test": str(test), "name": f"{plugin}:{attribute}"})
        return
    typer.echo(f"{plugin}\n{test}")
    typer.echo(f"try it: pytest {shlex.quote(str(test))}")
    use = Template(USES[kind]).substitute(name=f"{plugin.resolve().as_posix()}:{attribute}")
    typer.echo(f"use it: fedpeft run FILE --set {shlex.quote(use)}")


def _is_module(name: str) -> bool:
    """Whether Python has a module of that name, but for files of one's own beside it."""
    found = importlib.machinery.PathFinder.find_spec(name, [path for path in sys.path if path not in ("", os.getcwd())])
    return found is not None or name in sys.stdlib_module_names
