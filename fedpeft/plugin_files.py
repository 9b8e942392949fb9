"""Plug-ins that are not in the registry: an attribute of a Python file, or of a module that can be imported.

What is in a file has no name that two machines share: paths differ. `offer` gives it one, made of the file's name and
of its contents, so that a coordinator can ask for it and a client can tell whether it has the same.

A file that is edited while the process lives, as in a notebook, is loaded anew when a run begins (`forget_edited`), and
not before: in a run all of it is of one version, however long the run goes on.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import inspect
import sys
from dataclasses import dataclass
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import ModuleType
from typing import Any

from fedpeft.errors import PluginError, closest


@dataclass(frozen=True, slots=True)
class _Loaded:
    """A module made of a file, and the SHA-256 of the very contents that were run."""

    module: ModuleType
    digest: str


_LOADED: dict[Path, _Loaded] = {}

_OFFERED: dict[tuple[str, str], Any] = {}  # (kind, name that it was given) -> what it stands for

_ALONE = (
    "correct the path; or, if + joins parts of a codec: one in a file stands alone, so let the file have a function "
    "that returns the whole, e.g. TopK(Mine(), 0.1), and name that; or install it as an entry point fedpeft.codec"
)


def offer(kind: str, name: str, folder: Path) -> str:
    """Load `path/file.py:Attribute`, and give it a name that is the same on every machine that has the same file.

    The name holds in this process from now on: `elastic.py:Elastic#0f3a…`, with the first 12 digits of the SHA-256 of
    the file. `fedpeft.registry.load` takes it.

    Raises:
        PluginError: as `load_file`.
    """
    found = load_file(kind, name, folder)
    path, attribute = _path(name, folder)
    given = f"{path.name}:{attribute}#{_LOADED[path.resolve()].digest[:12]}"
    _OFFERED[kind, given] = found
    return given


def offered(kind: str) -> list[str]:
    """The names that `offer` has given in this process, sorted."""
    return sorted(name for of, name in _OFFERED if of == kind)


def is_offer(name: str) -> bool:
    """Whether a name is one that `offer` gives."""
    return ".py:" in name and "#" in name.rsplit(":", 1)[-1]


def load_offered(kind: str, name: str) -> Any:
    """What was offered under a name.

    Raises:
        PluginError: nothing was, or the file here is another than the one asked for (code `plugin.not-offered`).
    """
    try:
        return _OFFERED[kind, name]
    except KeyError:
        raise PluginError(
            f'{kind} "{name}" is not here',
            code="plugin.not-offered",
            allowed=", ".join(offered(kind)) or f"no {kind} of a file",
            remedy=f"put the same {name.split(':')[0]} beside this side's run file",
        ) from None


def forget_edited() -> None:
    """Have files that were edited meanwhile loaded anew when they are next asked for. Called as a run begins.

    Objects made of the old contents keep them, and so does what was offered under their hash.
    """
    for path, loaded in list(_LOADED.items()):
        if not path.is_file() or hashlib.sha256(path.read_bytes()).hexdigest() != loaded.digest:
            del _LOADED[path]


def load_file(kind: str, name: str, folder: Path) -> Any:
    """The attribute that `path/file.py:Attribute` names; a relative path is taken from `folder`.

    The file is loaded once, but see `forget_edited`. To ask for a strategy is to begin a run.

    Raises:
        PluginError: no such file or attribute, or the file fails to import.
    """
    path, attribute = _path(name, folder)
    path = path.resolve()
    if kind == "strategy":
        forget_edited()
    if path not in _LOADED and not path.is_file():
        raise PluginError(
            f'{kind} "{name}": there is no file {path}',
            code="plugin.no-file",
            allowed="path/file.py:Class, relative to the run file",
            remedy=_ALONE if kind == "codec" and "+" in name else "correct the path",
        )
    if path not in _LOADED:
        try:
            _LOADED[path] = _run(path)
        except Exception as error:
            raise PluginError(
                f'{kind} "{name}": {path.name} failed to import: {type(error).__name__}: {error}',
                code="plugin.import",
                remedy="run the file with python and correct what it reports",
            ) from error
    return _attribute(kind, name, _LOADED[path].module, path.name, attribute)


def _path(name: str, folder: Path) -> tuple[Path, str]:
    """The file of a name, and the attribute."""
    file_name, attribute = name.rsplit(":", 1)
    return folder / Path(file_name).expanduser(), attribute


def _run(path: Path) -> _Loaded:
    """A module of what a file contains now, which is read once: what is run is what is hashed."""
    content = path.read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    name = f"fedpeft_plugin_{path.stem}_{abs(hash(path)):x}_{digest[:12]}"  # an older version's classes keep theirs
    loader = SourceFileLoader(name, str(path))
    spec = importlib.util.spec_from_file_location(name, path, loader=loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        exec(loader.source_to_code(content, str(path)), vars(module))
    except BaseException:
        sys.modules.pop(name, None)
        raise
    return _Loaded(module, digest)


def load_module(kind: str, name: str) -> Any:
    """The attribute that `package.module:Attribute` names.

    Raises:
        PluginError: no such module or attribute, or the module fails to import.
    """
    module_name, attribute = name.rsplit(":", 1)
    try:
        module = importlib.import_module(module_name)
    except Exception as error:
        raise PluginError(
            f'{kind} "{name}": {module_name} failed to import: {type(error).__name__}: {error}',
            code="plugin.import",
            allowed="package.module:Attribute of what is installed here, or path/file.py:Attribute",
            remedy="correct the name, or install the package that brings it",
        ) from error
    return _attribute(kind, name, module, module_name, attribute)


def _attribute(kind: str, name: str, module: Any, shown: str, attribute: str) -> Any:
    if not hasattr(module, attribute):
        classes = [
            key for key, value in vars(module).items() if inspect.isclass(value) and value.__module__ == module.__name__
        ]
        raise PluginError(
            f'{kind} "{name}": {shown} has no {attribute}',
            code="plugin.no-class",
            allowed=", ".join(classes) or "the file defines no class",
            remedy=closest(attribute, classes) or f"define {attribute} in {shown} or name another class",
        )
    return getattr(module, attribute)
