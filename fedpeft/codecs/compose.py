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

from fedpeft.codecs.base import Codec
from fedpeft.codecs.part_values import EXAMPLES, make_part, split_values
from fedpeft.codecs.searching import is_searching
from fedpeft.errors import PluginError, closest
from fedpeft.registry import Kind, build, load, names

_PART = re.compile(r"\s*([A-Za-z][\w-]*)\s*(?:\(([^()]*)\))?\s*")
_MOST = 4
_ELSEWHERE = {
    "ternary": 'behind topk that is "sign": signs of what is kept, and one scale; write topk(0.05)+sign',
    "stc": "sparse ternary compression is topk with signs: write topk(0.05)+sign",
    "rice": "leave it out: places behind topk are Golomb–Rice codes as it is, e.g. topk(0.05)+sign",
}
"""What papers call something that goes by another name here: what to write."""


def composed(name: str) -> partial[Codec]:
    """What makes the codec of a composed name, called without arguments.

    Raises:
        PluginError: the name is not of that form, or a part of it is not known.
    """
    parts = [_PART.fullmatch(part) for part in name.split("+")]
    if len(parts) == 1 and "(" not in name:
        raise _unknown(name, name, "codec")  # a codec of one word is not composed
    if len(parts) > _MOST or not all(parts):
        raise PluginError(
            f'codec "{name}" is not of the form stage+codec, with values in parentheses',
            code="plugin.unknown-codec",
            allowed=f'e.g. "topk(0.05)+fp16", at most {_MOST} parts',
            remedy="write it so",
        )
    told = tuple((part[1], *split_values(name, part[2])) for part in parts if part)
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
    found = next((other for other in wanted if other != kind and word in names(other)), None)
    alone = word == name
    remedy = next((_ELSEWHERE[other] for other in parts_of(name) if other in _ELSEWHERE), None)
    if found is None:
        about = "" if alone else f': "{word}"'
        message = f'codec "{name}"{about} is not known' + (f", and {wanted[kind]} belongs there" if not alone else "")
        near = [*names(kind), *names("stage"), *names("coder")] if alone else names(kind)
        remedy = remedy or closest(word, near)
    else:
        message = f'codec "{name}": "{word}" is {wanted[found]}, and {wanted[kind]} belongs there'
        remedy = remedy or (
            "name a coder there: uniform(0.8)+zstd" if kind == "coder" else _place_of(name, word, found)
        )
    example = 'e.g. "topk(0.05)+fp16", "rotate+int4", "uniform(0.8)+zstd"'
    return PluginError(
        message,
        code="plugin.unknown-codec",
        allowed=", ".join(names(kind)) + ", or path/file.py:Class" * alone,
        remedy=remedy or ("name one of these, or install the package that brings it" if alone else example),
    )


def _place_of(name: str, word: str, kind: Kind) -> str:
    """Where a part of this kind stands, in the name of a whole codec."""
    if kind == "coder":
        return f"put a step before it that it codes: uniform(0.8)+{word}"
    if kind == "codec":
        return f"a codec stands last, behind all stages: rotate+{word}"
    behind = getattr(load("stage", word), "around", "codec")
    if behind == "coder" and name.endswith(")"):
        return f"append a coder, +zstd or +ans: {name}+zstd"
    return f"put a {behind} behind it, e.g. {EXAMPLES.get(word, f'{word}+int8')}"


def _make(name: str, parts: tuple[tuple[Kind, str, tuple[str, ...], dict[str, str]], ...]) -> Codec:
    made: Codec = make_part(name, *parts[-1], None)
    for kind, word, values, named in reversed(parts[:-1]):
        if is_searching(made) and not getattr(load(kind, word), "whole", False):
            raise PluginError(
                f'codec "{name}": "{made.name}" has something left to search, and behind "{word}" it does not see the '
                "vector that is judged",
                code="plugin.unknown-codec",
                allowed=f'"{made.name}" at the front or behind forget, or one that is told all its values',
                remedy="write it so",
            )
        made = make_part(name, kind, word, values, named, made)
    return made
