"""The commands that the documentation shows exist: make targets, fedpeft commands, their options, files they name."""

import itertools
import re
import shlex
import subprocess
import sys
from pathlib import Path

import click
import pytest
import typer

from fedpeft.cli.main import app
from fedpeft.cli.vary import contenders, parse_vary
from fedpeft.simulation.federation import check_plugins

ROOT = Path(__file__).parents[1]
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(path for path in ROOT.glob("*/*.md"))]
_BLOCK = re.compile(r"^```(?:bash|sh|shell|console)\s*\n(.*?)^```", re.MULTILINE | re.DOTALL)
_ARRAY = re.compile(r"^([A-Z_]+)=\((.*?)\)$", re.MULTILINE | re.DOTALL)
_VARIABLE = re.compile(r"""^([A-Z_]+)=(?:'(.*?)'|"(.*?)")$""", re.MULTILINE)
_USE = re.compile(r"""\$([A-Z_]+)\b|"\$\{([A-Z_]+)\[@\]\}\"""")


def shown_commands(text):
    """The commands of all shell blocks: prompts and comments removed, continued lines joined, and what a page's shell
    variables hold in their places."""
    found, variables = [], {}
    for block in _BLOCK.findall(text):
        block = block.replace("\\\n", " ")
        for name, *values in [*_ARRAY.findall(block), *_VARIABLE.findall(block)]:
            variables[name] = " ".join("".join(values).split())
        for line in _VARIABLE.sub("", _ARRAY.sub("", block)).splitlines():
            for words in _commands(_filled(line, variables).strip().removeprefix("$ ")):
                while words and re.fullmatch(r"[A-Z_]+=.*", words[0]):
                    words.pop(0)
                if words:
                    words[0] = (
                        words[0].rpartition("/")[2] if words[0].endswith(("bin/fedpeft", "bin/make")) else words[0]
                    )
                    found.append(words)
    return found


def _filled(line, variables):
    """With the values of the page's own variables, which may hold others; quotes in what is quoted are kept."""

    def value(match):
        found = variables.get(match[1] or match[2], match[0])
        quoted = match.string[: match.start()].replace('\\"', "").count('"') % 2
        return found.replace('"', '\\"') if quoted else found

    for _ in range(3):
        line = _USE.sub(value, line)
    return line


def _commands(line):
    """Words of each command, in a line that may have several."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars=";|&")
    lexer.whitespace_split = True
    commands = [[]]
    for word in lexer:
        if set(word) <= set(";|&"):
            commands.append([])
        else:
            commands[-1].append(word)
    return commands


def targets():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    return set(re.findall(r"^([a-z][a-z-]*):", makefile, re.MULTILINE))


def check_command(words):
    """Parse `fedpeft ...` as the command line would, run nothing; a placeholder in capitals counts as a value.

    Raises:
        click.ClickException: there is no such command or option, or an argument is missing.
    """
    command, context = typer.main.get_command(app), None
    arguments = list(words[1:])
    while isinstance(command, click.Group):
        context = command.make_context(command.name or "fedpeft", arguments, parent=context, resilient_parsing=False)
        rest = [*getattr(context, "_protected_args", ()), *context.args]  # click 8 keeps the command apart
        _, command, arguments = command.resolve_command(context, rest)
    command.make_context(command.name, list(arguments), parent=context)


def shown(name):
    return [
        pytest.param(words, id=f"{path.relative_to(ROOT)}: {' '.join(words)}")
        for path in DOCUMENTS
        for words in shown_commands(path.read_text(encoding="utf-8"))
        if words[0] == name
    ]


@pytest.mark.parametrize("words", shown("make"))
def test_every_make_target_that_is_shown_exists(words):
    assert {word for word in words[1:] if "=" not in word} <= targets()


@pytest.mark.parametrize("words", shown("fedpeft"))
def test_every_fedpeft_command_that_is_shown_exists(words):
    if words[-1] in ("--help", "--version", "-h"):
        words = [*words[:-1], *(["ls"] if len(words) == 2 else [])]
    check_command(words)
    for word in words:
        if re.fullmatch(r"simulations/[\w-]+\.toml", word):
            assert (ROOT / word).is_file()


def shown_runs():
    """Those of files that there are; others stand for a file of one's own."""
    commands = [(one, one.values[0]) for one in shown("fedpeft")]
    return [one for one, words in commands if words[1] in ("run", "validate") and (ROOT / words[2]).is_file()]


@pytest.mark.parametrize("words", shown_runs())
def test_every_run_that_is_shown_is_one(words, monkeypatch, tmp_path):
    """Keys, values and plug-ins of its run file with all that is set and varied."""
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("FEDPEFT_DATA", str(tmp_path))
    options = list(itertools.pairwise(words))
    overrides = [value for option, value in options if option == "--set"]
    varied = [parse_vary(value) for option, value in options if option == "--vary"]
    for config in contenders(ROOT / words[2], overrides, varied, smoke="--smoke" in words):
        check_plugins(config)


def test_what_is_shown_is_found():
    shell = "# why\n$ make demo\nA=b .venv/bin/fedpeft run x.toml \\\n  --smoke && make test\n"
    text = f"text\n```bash\n{shell}```\n```python\nmake no\n```\n"
    assert shown_commands(text) == [["make", "demo"], ["fedpeft", "run", "x.toml", "--smoke"], ["make", "test"]]


def test_what_variables_hold_is_shown_too():
    first = "SEEDS='--seeds 1-3'\nKIND='a = \"b\"'\nMORE=(--set x=1\n  --set \"y={ $KIND }\")\n"
    then = "fedpeft run x.toml $SEEDS \"${MORE[@]}\" --vary 'z=1;2' | tee log # why\n"
    text = f"```bash\n{first}```\n```bash\n{then}```\n"
    run = ["fedpeft", "run", "x.toml", "--seeds", "1-3", "--set", "x=1", "--set", 'y={ a = "b" }', "--vary", "z=1;2"]
    assert shown_commands(text) == [run, ["tee", "log"]]


@pytest.mark.parametrize(
    "line",
    [
        "fedpeft run simulations/assistant.toml --smoke --set run.rounds=3",
        "fedpeft --debug resume RUN",
        "fedpeft new strategy mine",
        "fedpeft export RUN --help",
    ],
)
def test_the_check_passes_what_exists(line):
    words = line.split()
    try:
        check_command(words)
    except click.exceptions.Exit:
        assert words[-1] == "--help"


@pytest.mark.parametrize("line", ["fedpeft rnu x", "fedpeft run x --fast", "fedpeft run", "fedpeft new strategie x"])
def test_the_check_stops_what_does_not(line):
    with pytest.raises(click.ClickException):
        check_command(line.split())


def test_the_two_commands_of_the_project_are_targets():
    assert {"demo", "test", "check"} <= targets()


@pytest.mark.slow
def test_the_python_example_runs(tmp_path):
    (example,) = re.findall(r"^```python\n(.*?)^```", (ROOT / "README.md").read_text(encoding="utf-8"), re.M | re.S)
    done = subprocess.run([sys.executable, "-c", example], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / done.stdout.split()[-1]).is_file()
