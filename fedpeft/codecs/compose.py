"""Codecs by composition: `rotate+int4`, `topk(0.05)+sign`, `uniform(0.8)+zstd`, `int4(dither)`.

    name     = part + part + ...        all parts but the last are stages, each around what follows it
    part     = word, or word(value, value, key=value, ...)

The last part is a codec of the registry, a stage (registry kind `stage`) a class whose first argument is the codec
inside it: or, if it says `around = "coder"`, a coder. One that says `first = True` stands at the front only, and one
that says `whole = True` hands the vector on as it is. Behind any other no tensors are left to see, so a part that is
fitted to them (see `LayoutCodec`) cannot stand there, nor one that searches (`SearchingCodec`). Values in parentheses
are further arguments, in their order or by name.
"""

from __future__ import annotations

import re
from contextlib import suppress
from functools import partial
from typing import Any

from fedpeft.codecs.base import Codec
from fedpeft.codecs.searching import is_searching
from fedpeft.errors import PluginError, closest
from fedpeft.registry import Kind, build, load, names, parameters

_PART = re.compile(r"\s*([A-Za-z][\w-]*)\s*(?:\(([^()]*)\))?\s*")
_MOST = 4


def composed(name: str) -> partial[Codec]:
    """What makes the codec of a composed name, called without arguments.

    Raises:
        PluginError: the name is not of that form, or a part of it is not known.
    """
    parts = [_PART.fullmatch(part) for part in name.split("+")]
    if len(parts) > _MOST or not all(parts):
        raise PluginError(
            f'codec "{name}" is not of the form stage+codec, with values in parentheses',
            code="plugin.unknown-codec",
            allowed=f'e.g. "topk(0.05)+fp16", at most {_MOST} parts',
            remedy="write it so",
        )
    told = tuple((part[1], *_values(name, part[2])) for part in parts if part)
    kinds: list[Kind] = ["codec"]  # of each part
    hiding = ""  # the first stage that does not hand on tensors
    for place, (word, *_) in enumerate(told):
        last = place == len(told) - 1
        if kinds[-1] == "codec" and not last:
            kinds[-1] = "stage"
        if word not in names(kinds[-1]) or (kinds[-1] == "coder" and not last):
            raise _unknown(name, word, kinds[-1])
        if not last:
            stage = load("stage", word)
            if place and getattr(stage, "first", False):
                raise PluginError(
                    f'codec "{name}": "{word}" stands first or not at all',
                    code="plugin.unknown-codec",
                    allowed=f"{word} before all other parts",
                    remedy=f"move it to the front: {word}+...",
                )
            kinds.append(getattr(stage, "around", "codec"))
        part = load(kinds[place], word)
        whole = getattr(part, "whole", False)
        if hiding and hasattr(part, "fitted") and not whole:
            raise PluginError(
                f'codec "{name}": "{word}" treats each tensor by itself, and behind "{hiding}" there are none',
                code="plugin.unknown-codec",
                allowed=f'"{word}" at the front, or behind forget and relax only',
                remedy=f'name another codec behind "{hiding}"',
            )
        hiding = hiding or ("" if whole else word)
    return partial(_make, name, tuple((kind, *part) for kind, part in zip(kinds, told, strict=True)))


def parts_of(name: str) -> tuple[str, ...]:
    """The words that a codec's name is made of, each of which a client must have.

    >>> parts_of("topk(0.05)+sign"), parts_of("int8")
    (('topk', 'sign'), ('int8',))
    """
    return tuple(part.partition("(")[0].strip() for part in name.split("+"))


def parts_here() -> tuple[str, ...]:
    """The words that codecs can be made of in this installation: a coder whose package is missing is none of them."""
    coders = []
    for word in names("coder"):
        with suppress(PluginError):
            build("coder", word, {})
            coders.append(word)
    return (*names("codec"), *names("stage"), *coders)


def _unknown(name: str, word: str, kind: Kind) -> PluginError:
    wanted: dict[Kind, str] = {"stage": "a stage", "codec": "a codec", "coder": "a coder"}
    found = next((text for other, text in wanted.items() if other != kind and word in names(other)), "not known")
    return PluginError(
        f'codec "{name}": "{word}" is {found}, and {wanted[kind]} belongs there',
        code="plugin.unknown-codec",
        allowed=", ".join(names(kind)),
        remedy=closest(word, names(kind)) or 'e.g. "topk(0.05)+fp16", "rotate+int4", "uniform(0.8)+zstd"',
    )


def _make(name: str, parts: tuple[tuple[Kind, str, tuple[Any, ...], dict[str, Any]], ...]) -> Codec:
    made = _called(*parts[-1])
    for kind, word, values, named in reversed(parts[:-1]):
        if is_searching(made) and not getattr(load(kind, word), "whole", False):
            raise PluginError(
                f'codec "{name}": "{made.name}" has something left to search, and behind "{word}" it does not see the '
                "vector that is judged",
                code="plugin.unknown-codec",
                allowed=f'"{made.name}" at the front or behind forget, or one that is told all its values',
                remedy="write it so",
            )
        made = _called(kind, word, (made, *values), named)
    codec: Codec = made
    return codec


def _called(kind: Kind, word: str, values: tuple[Any, ...], named: dict[str, Any]) -> Any:
    known = parameters(kind, word)
    if len(values) > len(known):
        raise ValueError(f"{word} takes {len(known)} values, not {len(values)}: {', '.join(known)}")
    told = dict(zip(known, values, strict=False))
    twice = told.keys() & named.keys()
    if twice:
        raise ValueError(f"{word} is told {min(twice)} twice")
    return build(kind, word, told | named)


def _values(name: str, text: str | None) -> tuple[tuple[float | str, ...], dict[str, float | str]]:
    """Values in their order, and those by name."""
    values: list[float | str] = []
    named: dict[str, float | str] = {}
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
            named[key] = _value(value)
        else:
            values.append(_value(value))
    return tuple(values), named


def _value(word: str) -> float | str:
    try:
        return float(word)
    except ValueError:
        return word
