"""What stands in the parentheses behind a part of a codec's name, and the part made with it."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from functools import cache
from typing import Any

from fedpeft.codecs.base import Codec
from fedpeft.errors import PluginError, closest
from fedpeft.registry import Kind, build, load

EXAMPLES = {
    "dare": "dare(0.5)+fp16",
    "forget": "forget+sign",
    "lgreco": "lgreco(0.33)+zstd",
    "lowrank": "lowrank(4)+int8",
    "relax": "relax(1.5)+topk(0.1)+sign",
    "rotate": "rotate+int4",
    "sketch": "sketch(0.1)+int8",
    "topk": "topk(0.05)+sign",
    "uniform": "uniform(0.8)+zstd",
}
"""Of each stage a whole codec, as errors show it."""

_NUMBERS = ("float", "int", "float | None", "int | None", float, int)


def split_values(name: str, text: str | None) -> tuple[tuple[str, ...], dict[str, str]]:
    """Values in their order, and those by name, as they are written.

    Args:
        name: of the whole codec, for errors.
        text: between the parentheses; None: there are none.

    Raises:
        PluginError: a name is told twice, or a value without one stands behind one with a name.
    """
    values: list[str] = []
    named: dict[str, str] = {}
    for part in text.split(",") if text and text.strip() else ():
        key, equals, value = (word.strip() for word in part.rpartition("="))
        if (named and not equals) or key in named:
            raise PluginError(
                f'codec "{name}": "{part.strip()}" stands behind a value with a name'
                if not equals
                else f'codec "{name}": {key} is told twice',
                code="plugin.unknown-codec",
                allowed="values in their order, then values by name, each once",
                remedy="write it so",
            )
        if equals:
            named[key] = value
        else:
            values.append(value)
    return tuple(values), named


def make_part(
    name: str, kind: Kind, word: str, values: tuple[str, ...], named: dict[str, str], inner: Codec | None
) -> Any:
    """One part of a codec.

    Args:
        name: of the whole codec, for errors.
        kind: of the part.
        word: its name.
        values: in their order, as they are written.
        named: those by name.
        inner: what the part stands around; None: it is the last.

    Raises:
        PluginError: there are too many values, one is missing, unknown or no number; or the part refuses them.
    """
    takes = _takes(load(kind, word))
    any_name = any(parameter.kind is parameter.VAR_KEYWORD for parameter in takes.values())
    wanted = {key: one for key, one in takes.items() if one.kind in (one.POSITIONAL_OR_KEYWORD, one.KEYWORD_ONLY)}
    hidden = list(wanted)[: inner is not None]  # the codec inside a stage is no value of its name
    for key in hidden:
        del wanted[key]

    def wrong(what: str, remedy: str) -> PluginError:
        form = f"{word}({', '.join(wanted)})" if wanted else f"{word}, without parentheses"
        example = f"; e.g. {EXAMPLES[word]}" if word in EXAMPLES else ""
        return PluginError(
            f'codec "{name}": {what}', code=f"plugin.{kind}-parameter", allowed=form + example, remedy=remedy
        )

    if len(values) > len(wanted):
        count = f"{len(wanted)} value{'s' * (len(wanted) > 1)}" if wanted else "no values"
        given = f"{len(values)} {'are' if len(values) > 1 else 'is'} given: {', '.join(values)}"
        raise wrong(
            f'"{word}" takes {count}, and {given}',
            f"write {word} alone" if not wanted else f"leave out {', '.join(values[len(wanted) :])}",
        )
    told = dict(zip(wanted, values, strict=False))
    if twice := told.keys() & named.keys():
        raise wrong(f'"{word}" is told {min(twice)} twice', f"tell it {min(twice)} once")
    told |= named
    for key in named:
        if key not in wanted and (key in hidden or not any_name):
            raise wrong(f'{kind} "{word}" has no parameter {key}', closest(key, tuple(wanted)) or f"remove {key}")
    missing = [key for key, one in wanted.items() if one.default is one.empty and key not in told]
    if missing:
        raise wrong(f'"{word}" needs a value: {missing[0]}', f"write it in parentheses: {word}({', '.join(missing)})")
    made: dict[str, Any] = {}
    for key, text in told.items():
        made[key] = value = _value(text)
        annotation = wanted[key].annotation if key in wanted else None
        if annotation in ("str", str):
            made[key] = text
        elif annotation in _NUMBERS and isinstance(value, str):
            raise wrong(f'"{word}" takes a number for {key}, not "{text}"', "write a number in its place")
    return build(kind, word, dict(zip(hidden, (inner,), strict=False)) | made)


@cache
def _takes(target: Any) -> Mapping[str, inspect.Parameter]:
    return inspect.signature(target).parameters


def _value(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text
