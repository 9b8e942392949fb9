"""Names -> plug-ins. One file, one line here: that is all it takes to add a method.

A plug-in is named in one of three ways, wherever a run file or an argument takes a name:

    "fedavg"                    built in: a line in `BUILTIN`
    "my-rule"                   installed: an entry point of the group `fedpeft.strategy`, `fedpeft.codec`, ...
    "my/rule.py:MyRule"         a file: loaded from its path, which may be relative to the run file

Built-ins are written as `module:attribute` and imported only when asked for, so that listing names costs nothing.
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import sys
from collections.abc import Mapping
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any, Literal, TypeAlias

from fedpeft.errors import PluginError, closest

Kind: TypeAlias = Literal[
    "strategy", "codec", "objective", "optimizer", "adapter", "kernel", "partitioner", "source", "task"
]

BUILTIN: dict[Kind, dict[str, str]] = {
    "strategy": {
        "fedavg": "fedpeft.strategies.fedavg:FedAvg",
        "fedprox": "fedpeft.strategies.fedprox:FedProx",
        "fedavgm": "fedpeft.strategies.fedavgm:FedAvgM",
        "fedadam": "fedpeft.strategies.fedadam:FedAdam",
    },
    "codec": {
        "fp32": "fedpeft.codecs.fp32:Fp32",
        "fp16": "fedpeft.codecs.fp16:Fp16",
        "int8": "fedpeft.codecs.int8:Int8",
    },
    "objective": {
        "plain": "fedpeft.training.objectives.plain:Plain",
        "proximal": "fedpeft.training.objectives.proximal:Proximal",
    },
    "optimizer": {
        "adamw": "fedpeft.training.optimizers:adamw",
        "sgd": "fedpeft.training.optimizers:sgd",
    },
    "adapter": {
        "lora": "fedpeft.adapters.kinds.lora:lora",
        "bitfit": "fedpeft.adapters.kinds.bitfit:bitfit",
        "ssf": "fedpeft.adapters.kinds.ssf:ssf",
    },
    "kernel": {
        "torch": "fedpeft.kernels.native:Native",
        "onednn": "fedpeft.kernels.onednn:OneDnn",
    },
    "partitioner": {
        "iid": "fedpeft.data.partition.iid:iid",
        "dirichlet": "fedpeft.data.partition.dirichlet:dirichlet",
    },
    "source": {
        "assistant": "fedpeft.data.assistant.source:assistant",
        "csv": "fedpeft.data.csv:csv_source",
    },
    "task": {
        "label-names": "fedpeft.training.tasks.label_names:LabelNames",
        "linear-head": "fedpeft.training.tasks.linear_head:LinearHead",
    },
}


def names(kind: Kind) -> list[str]:
    """All known names of a kind, built-in and installed, sorted."""
    return sorted({*BUILTIN[kind], *(point.name for point in _installed(kind))})


@cache
def _installed(kind: Kind) -> tuple[EntryPoint, ...]:
    """What installed packages bring; looked up once a process, since it reads the metadata of every package."""
    return tuple(entry_points(group=f"fedpeft.{kind}"))


@cache
def _builtin(kind: Kind, name: str) -> Any:
    module, attribute = BUILTIN[kind][name].split(":")
    return getattr(importlib.import_module(module), attribute)


def load(kind: Kind, name: str, *, relative_to: Path | None = None) -> Any:
    """The class or function behind a name.

    Args:
        kind: which family of plug-ins.
        name: a built-in name, an entry point's name, or `path/file.py:Attribute`.
        relative_to: folder against which a relative file path is taken; default: the working folder.

    Raises:
        PluginError: no such name, file or attribute, or the file fails to import.
    """
    if ".py:" in name:
        return _load_file(kind, name, relative_to or Path.cwd())
    if name in BUILTIN[kind]:
        return _builtin(kind, name)
    for point in _installed(kind):
        if point.name == name:
            try:
                return point.load()
            except Exception as error:
                raise PluginError(
                    f'{kind} "{name}": {point.value} failed to import: {type(error).__name__}: {error}',
                    code="plugin.import",
                    remedy="repair or remove the package that brings it",
                ) from error
    raise PluginError(
        f'{kind} "{name}" is not known',
        code=f"plugin.unknown-{kind}",
        allowed=", ".join(names(kind)) + ", or path/file.py:Class",
        remedy=closest(name, names(kind)) or "name one of these, or install the package that brings it",
    )


def build(kind: Kind, name: str, params: Mapping[str, Any], *, relative_to: Path | None = None) -> Any:
    """Load a plug-in and call it with its parameters.

    Raises:
        PluginError: as `load`; or a parameter is unknown, missing or refused by the plug-in.
    """
    target = load(kind, name, relative_to=relative_to)
    if not callable(target):
        raise PluginError(
            f'{kind} "{name}" is a {type(target).__name__}: it cannot be called',
            code="plugin.not-callable",
            allowed="a class, or a function",
            remedy="name another attribute of the file",
        )
    known, takes_any = _parameters(target)
    for key, value in params.items():
        if key not in known and not takes_any:
            raise PluginError(
                f'{kind} "{name}" has no parameter {key} (= {value!r})',
                code=f"plugin.{kind}-parameter",
                allowed=", ".join(known) or "no parameters",
                remedy=closest(key, known) or f"remove {key}",
            )
    try:
        return target(**params)
    except (TypeError, ValueError) as error:
        raise PluginError(
            f'{kind} "{name}" refused its parameters {dict(params)}: {error}',
            code=f"plugin.{kind}-parameter",
            allowed=", ".join(known) or "no parameters",
            remedy="correct the value in the run file",
        ) from error


@cache
def _parameters(target: Any) -> tuple[tuple[str, ...], bool]:
    """Names that a plug-in can be called with, and whether it takes any other.

    Looked up once: of a class without a constructor, Python parses a text to find it, and a trainer builds an
    objective for every client.
    """
    parameters = inspect.signature(target).parameters.values()
    known = tuple(
        parameter.name
        for parameter in parameters
        if parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)
    )
    return known, any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters)


def _load_file(kind: Kind, name: str, folder: Path) -> Any:
    file_name, attribute = name.rsplit(":", 1)
    path = (folder / Path(file_name).expanduser()).resolve()
    if not path.is_file():
        raise PluginError(
            f'{kind} "{name}": there is no file {path}',
            code="plugin.no-file",
            allowed="path/file.py:Class, relative to the run file",
            remedy="correct the path",
        )
    module_name = f"fedpeft_plugin_{path.stem}_{abs(hash(path)):x}"
    module = sys.modules.get(module_name)
    if module is None:
        spec = importlib.util.spec_from_file_location(module_name, path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[module_name] = module
        try:
            spec.loader.exec_module(module)
        except Exception as error:
            sys.modules.pop(module_name, None)
            raise PluginError(
                f'{kind} "{name}": {path.name} failed to import: {type(error).__name__}: {error}',
                code="plugin.import",
                remedy="run the file with python and correct what it reports",
            ) from error
    if not hasattr(module, attribute):
        classes = [
            key for key, value in vars(module).items() if inspect.isclass(value) and value.__module__ == module_name
        ]
        raise PluginError(
            f'{kind} "{name}": {path.name} has no {attribute}',
            code="plugin.no-class",
            allowed=", ".join(classes) or "the file defines no class",
            remedy=closest(attribute, classes) or f"define {attribute} in {path.name} or name another class",
        )
    return getattr(module, attribute)
