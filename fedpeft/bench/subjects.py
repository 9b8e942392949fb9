"""Which benchmarks there are: files with a function `measure`, read without being run."""

from __future__ import annotations

import ast
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from fedpeft.errors import ConfigError, closest

PLACE = Path("simulations") / "benchmarks"
_INSTALLED_IN = Path(__file__).resolve().parents[2]  # an editable installation's is the checkout


@dataclass(frozen=True, slots=True)
class Subject:
    """One benchmark."""

    name: str  # of its file
    path: Path
    about: str  # the first line of its docstring
    peers: tuple[str, ...] = ()  # that it runs in virtual environments of their own: its constant PEERS
    takes: tuple[str, ...] = ()  # options beside --quick, each a path: what else its `measure` takes


def find_subjects(names: Sequence[str] = ()) -> list[Subject]:
    """The benchmarks of the checkout, or those that are named.

    Args:
        names: of subjects, or paths of benchmark files (`own/thing.py`); none: all of the checkout.

    Raises:
        ConfigError: there is no checkout here, no such subject, or a file that is no benchmark.
    """
    paths = [Path(name) for name in names if name.endswith(".py")]
    own = [_own_subject(path) for path in paths]
    wanted = [name for name in names if not name.endswith(".py")]
    if not wanted and names:
        return own
    known = {subject.name: subject for subject in _of_checkout()}
    for name in wanted:
        if name not in known:
            raise ConfigError(
                f'there is no benchmark "{name}"',
                code="bench.unknown",
                allowed=", ".join(known),
                remedy=closest(name, known) or "fedpeft bench --list tells what each of them shows",
            )
    return [*(known[name] for name in dict.fromkeys(wanted or known)), *own]


def checkout() -> Path | None:
    """The repository: the folder we stand in, or the one that an editable installation runs from."""
    for root in (Path.cwd(), _INSTALLED_IN):
        if (root / PLACE).is_dir():
            return root
    return None


def read_subject(path: Path) -> Subject | None:
    """The benchmark in a file; None when it defines no function `measure` that takes `quick`.

    Raises:
        OSError, SyntaxError: the file cannot be read.
    """
    module = ast.parse(path.read_text(encoding="utf-8"), filename=str(path))
    peers: tuple[str, ...] = ()
    takes: tuple[str, ...] = ()
    measures = False
    for node in module.body:
        if isinstance(node, ast.FunctionDef) and node.name == "measure":
            first, *others = [argument.arg for argument in node.args.args + node.args.kwonlyargs] or [""]
            measures, takes = first == "quick", tuple(others)
        elif isinstance(node, ast.Assign) and [ast.unparse(target) for target in node.targets] == ["PEERS"]:
            peers = tuple(ast.literal_eval(node.value))
    about = (ast.get_docstring(module) or path.stem).splitlines()[0]
    return Subject(path.stem, path, about, peers, takes) if measures else None


def _of_checkout() -> list[Subject]:
    root = checkout()
    if root is None:
        raise ConfigError(
            f"there are no benchmarks here: {Path.cwd()} has no folder {PLACE}",
            code="bench.no-checkout",
            allowed="a checkout of fedpeft's repository: the package carries this command, not the benchmarks",
            remedy="clone the repository and run it there, or name a file of your own: fedpeft bench path/to/file.py",
        )
    found = [read_subject(path) for path in sorted((root / PLACE).glob("*.py"))]
    return [subject for subject in found if subject is not None]


def _own_subject(path: Path) -> Subject:
    try:
        subject = read_subject(path)
        trouble = "it defines no function measure(quick)"
    except (OSError, SyntaxError, ValueError) as error:
        subject, trouble = None, str(error)
    if subject is None:
        raise ConfigError(
            f"{path} is no benchmark: {trouble}",
            code="bench.no-benchmark",
            allowed="a Python file with `def measure(quick: bool) -> Iterable[Figure]`",
            remedy="see fedpeft/bench/__init__.py",
        )
    return subject
