"""`--vary KEY=A,B`: one run file as several contenders, that differ in what is varied."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fedpeft.errors import ConfigError, FedpeftError

if TYPE_CHECKING:
    from fedpeft.config import RunConfig

_MOST = 200
_LONGEST = 80  # characters of a name: with `-seed7` behind it, it still names a folder


@dataclass(frozen=True, slots=True)
class Varied:
    """A key and the values that it takes in turn."""

    key: str
    values: tuple[Any, ...]


def parse_vary(text: str) -> Varied:
    """`table.key=a,b,c`, or `table.key=["a, b", "c"]` where a value has a comma outside brackets and quotes.

    Raises:
        ConfigError: the text is not of that form, has fewer than two values, or one of them twice.

    >>> parse_vary("local.learning_rate=1e-3, 3e-3")
    Varied(key='local.learning_rate', values=(0.001, 0.003))
    >>> parse_vary("codec.up=compeft(0.1,1), int8").values
    ('compeft(0.1,1)', 'int8')
    >>> parse_vary("scheduler.arms.rank=[2, 4],[4, 8]").values
    ([2, 4], [4, 8])
    """
    from fedpeft.config.overrides import parse_override

    key, separator, told = text.partition("=")
    pieces = _split(told)
    parts = pieces if len(pieces) > 1 else [told]
    found = [parse_override(f"{key}{separator}{part}") for part in parts]
    values = found[0][1] if len(found) == 1 and isinstance(found[0][1], list) else [value for _, value in found]
    if len(values) < 2 or len({repr(value) for value in values}) < len(values) or "" in values:
        raise ConfigError(
            f'--vary "{text}" does not name two or more different values',
            code="config.vary",
            allowed='e.g. codec.up=int8,fp16 or model.dtype=["fp32", "bf16"]',
            remedy="write it so; a single value is --set",
        )
    return Varied(found[0][0], tuple(values))


def _split(text: str) -> list[str]:
    """At the commas that are in no brackets and in no quotes."""
    parts, depth, quote = [""], 0, ""
    for letter in text:
        if quote:
            quote = "" if letter == quote else quote
        elif letter in "\"'" and (depth > 0 or not parts[-1].strip()):
            quote = letter
        depth += 0 if quote else (letter in "([{") - (letter in ")]}")
        if letter == "," and depth <= 0 and not quote:
            parts.append("")
        else:
            parts[-1] += letter
    return parts


def contenders(file: Path, overrides: Sequence[str], varied: Sequence[Varied], *, smoke: bool) -> list[RunConfig]:
    """The run file under every combination of the values, each in a folder of its own: NAME-value-value; the run file
    itself where nothing is varied.

    All of them are checked before the first is run: keys and values, plug-ins and their parameters; no model is loaded.

    Raises:
        ConfigError: the run file does not validate under one of them, which it names, or there are too many.
        PluginError: one of them names a plug-in that is not known, or that refuses its parameters.
    """
    from fedpeft.config import load_run_file
    from fedpeft.config.overrides import parse_override

    combinations = list(product(*(one.values for one in varied)))
    names = ["-".join(map(_label, values)) for values in combinations]
    keys = [one.key for one in varied]
    told = next((key for key in keys if key in ("run.name", "run.folder")), None)
    if told is not None:
        raise ConfigError(
            f"--vary {told} makes runs that differ in nothing else",
            code="config.vary",
            allowed="keys that change what is trained",
            remedy="repeat a run under another --name; runs of several seeds are --seeds 1-3",
        )
    if len(combinations) > _MOST or len(set(names)) < len(names) or len(set(keys)) < len(keys):
        raise ConfigError(
            f"--vary makes {len(combinations)} runs of {len(set(names))} different names from {', '.join(keys)}",
            code="config.vary",
            allowed=f"each key once, values that differ in their letters and digits, at most {_MOST} runs",
            remedy="vary fewer values, or make two sweeps of it",
        )
    found = []
    base = dict(map(parse_override, overrides))
    for values, name in zip(combinations, names, strict=True):
        own = dict(zip(keys, values, strict=True))
        try:
            config = load_run_file(file, {**base, **own}, smoke=smoke)
            if name:
                _check(config)
                config = config.model_copy(update={"run": config.run.model_copy(update={"name": _named(config, name)})})
        except FedpeftError as error:
            if name:
                error.locate(" ".join(f"--vary {key}={value}" for key, value in own.items()))
            raise
        found.append(config)
    return found


def _check(config: RunConfig) -> None:
    """What can be wrong with a combination beside its keys, seen before hours of those before it."""
    from fedpeft.simulation.federation import check_plugins

    check_plugins(config)


def _named(config: RunConfig, name: str) -> str:
    """The run's name with what is varied.

    Raises:
        ConfigError: it is too long for a folder.
    """
    whole = f"{config.run.name}-{name}"
    if len(whole) > _LONGEST:
        raise ConfigError(
            f'--vary makes a run of the name "{whole}", of {len(whole)} characters',
            code="config.vary",
            allowed=f"at most {_LONGEST}",
            remedy="give the runs a shorter --name, or vary keys of shorter values",
        )
    return whole


def _label(value: Any) -> str:
    """A value as a part of a folder's name."""
    if isinstance(value, dict):
        return "-".join(_label(part) for part in value.values())
    return re.sub(r"[^A-Za-z0-9._]+", "-", str(value)).strip("-.") or "none"
