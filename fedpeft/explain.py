"""From what pydantic found wrong in a run file to one error: key, value, what is allowed, what to do."""

from __future__ import annotations

import types
from collections.abc import Iterator, Sequence
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from fedpeft.errors import ConfigError, closest


class Contradiction(ValueError):
    """Raised by a validator whose finding concerns more than one key, or a rule of its own.

    Args:
        message: what is wrong, naming keys and values.
        allowed: what would have been accepted.
        remedy: what to do next.
    """

    def __init__(self, message: str, *, allowed: str, remedy: str) -> None:
        super().__init__(message)
        self.allowed = allowed
        self.remedy = remedy


def explain(error: ValidationError, model: type[BaseModel], origin: str) -> ConfigError:
    """One error for all findings: the first in full, the others as a line each.

    Args:
        error: as pydantic raised it.
        model: what was validated.
        origin: the file's name, or who gave the values.
    """
    problems: dict[str, ConfigError] = {}
    for detail in error.errors():
        key, table, field = _find(detail["loc"], model)
        # The branches of a union, and the items of a list that is wrong itself, are one finding.
        if not any(key == known or key.startswith(f"{known}[") for known in problems):
            problems[key] = _problem(detail, key, table, field)
    first, *others = problems.values()
    message = f"{origin}: {first.message}" + "".join(f"\n  also: {other.message}" for other in others)
    return ConfigError(message, code=first.code, allowed=first.allowed, remedy=first.remedy)


def _problem(detail: Any, key: str, table: type[BaseModel], field: FieldInfo | None) -> ConfigError:
    value, kind = detail["input"], detail["type"]
    shown = key if isinstance(value, dict | BaseModel) else f"{key} = {_short(value)}"
    allowed = (field.description or describe(field)) if field else ""
    if kind == "extra_forbidden":
        known = list(table.model_fields)
        return ConfigError(
            f"unknown key {shown}",
            code="config.unknown-key",
            allowed=", ".join(known),
            remedy=closest(str(detail["loc"][-1]), known) or "remove it, or correct its name",
        )
    if kind == "missing":
        return ConfigError(
            f"key {key} is missing", code="config.missing-key", allowed=allowed, remedy=f"add {key} to the run file"
        )
    if kind == "value_error":
        found = detail["ctx"]["error"]
        return ConfigError(
            f"{key}.{found}" if key else str(found),
            code="config.contradiction",
            allowed=getattr(found, "allowed", None),
            remedy=getattr(found, "remedy", "change one of them"),
        )
    options = _literals(field.annotation) if field else []
    return ConfigError(
        f"{shown} is {'a table' if shown == key else 'not allowed'}",
        code="config.wrong-value",
        allowed=allowed,
        remedy=(closest(value, options) if isinstance(value, str) else None) or f"correct {key}",
    )


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:60]}... ({len(text)} characters)"


def _find(location: Sequence[int | str], model: type[BaseModel]) -> tuple[str, type[BaseModel], FieldInfo | None]:
    """The key as a person writes it, e.g. `devices[0].steps`; the table it is in; its field, unless it is unknown."""
    key, table, field = "", model, None
    inside: type[BaseModel] | None = model
    for part in location:
        if isinstance(part, int):
            key += f"[{part}]"
        elif inside is not None:
            key += f".{part}" if key else part
            table, field = inside, inside.model_fields.get(part)
            inside = next(_tables(field.annotation), None) if field else None
        # else: pydantic's name for a branch of a union
    return key, table, field


def _tables(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for part in get_args(annotation):
        yield from _tables(part)


def _literals(annotation: Any) -> list[str]:
    return [option for option in get_args(annotation) if isinstance(option, str)]


def describe(field: FieldInfo) -> str:
    """What a key may be, in words: `a whole number > 0`."""
    return _words(field.annotation, field.metadata)


def _words(annotation: Any, metadata: Sequence[Any] = ()) -> str:
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        inner = [item for part in arguments[1:] for item in (part.metadata if isinstance(part, FieldInfo) else [part])]
        return _words(arguments[0], [*inner, *metadata])
    if origin is Literal:
        return ", ".join(f'"{option}"' for option in arguments)
    if origin in (Union, types.UnionType):
        return " or ".join(_words(part, metadata) for part in arguments if part is not type(None))
    if origin is list:
        return f"a list, each {_words(arguments[0])}{_bounds(metadata)}"
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        more = ", and its parameters" if annotation.model_config.get("extra") == "allow" else ""
        return f"a table with the keys {', '.join(annotation.model_fields)}{more}"
    words = {int: "a whole number", float: "a finite number", str: "a text", bool: "true or false"}
    return words.get(annotation, str(annotation)) + _bounds(metadata)


_SIGNS = {"gt": "> {}", "ge": ">= {}", "lt": "< {}", "le": "<= {}", "min_length": "(at least {})"}


def _bounds(metadata: Sequence[Any]) -> str:
    found = [
        sign.format(_power(getattr(item, name)))
        for item in metadata
        for name, sign in _SIGNS.items()
        if getattr(item, name, None) is not None
    ]
    return f" {' and '.join(found)}" if found else ""


def _power(bound: Any) -> str:
    large = isinstance(bound, int) and bound >= 2**16 and bound & (bound - 1) == 0
    return f"2^{bound.bit_length() - 1}" if large else str(bound)
