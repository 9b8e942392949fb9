"""Templates of utterances: a line of text with alternatives and slots, parsed once and then expanded many times.

    ! [turn|switch] on the {room} [lights|lamp]

`[a|b|]` chooses one of its options (one may be empty, brackets may be nested), `{room}` stands for a value of that
slot. The mark in front tells the form, on which it depends what may be put around it ("could you ...?"):
`!` imperative, `?` question, `.` statement, `~` fragment.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

from fedpeft.errors import DataError

Form: TypeAlias = Literal["imperative", "question", "statement", "fragment"]
FORMS: dict[str, Form] = {"!": "imperative", "?": "question", ".": "statement", "~": "fragment"}

Choose: TypeAlias = Callable[[str, int], int]
"""(what the choice is, how many options it has) -> which one; it is here that a person's habits come in."""


@dataclass(frozen=True, slots=True)
class Slot:
    """A place for one of the values of a slot."""

    name: str


@dataclass(frozen=True, slots=True)
class Choice:
    """A place for one of several phrases."""

    source: str  # as written, which names the choice: the same habit holds wherever it is written so
    options: tuple[Phrase, ...]


Phrase: TypeAlias = tuple[str | Slot | Choice, ...]


@dataclass(frozen=True, slots=True)
class Template:
    """One way to say something."""

    form: Form
    phrase: Phrase


def parse(line: str) -> Template:
    """A line with its mark, e.g. `! dim the {room} lights`.

    Raises:
        DataError: there is no mark, or a bracket is not closed.
    """
    mark, _, text = line.partition(" ")
    if mark not in FORMS or not text:
        raise _malformed(line, "does not start with a mark and a space")
    phrase, end = _parse_phrase(text, 0, line)
    if end < len(text):
        raise _malformed(line, f"closes or parts something that is not open: {text[end:]!r}")
    return Template(FORMS[mark], phrase)


def expand(phrase: Phrase, slots: Mapping[str, tuple[str, ...]], choose: Choose) -> str:
    """The phrase as text, every choice made by `choose`. Doubled spaces that empty options leave are removed.

    Raises:
        KeyError: a slot has no values.
    """
    return " ".join("".join(_expand(part, slots, choose) for part in phrase).split()).replace(" ,", ",")


def slot_names(phrase: Phrase) -> set[str]:
    """The slots that a phrase may need."""
    names: set[str] = set()
    for part in phrase:
        if isinstance(part, Slot):
            names.add(part.name)
        elif isinstance(part, Choice):
            names.update(*map(slot_names, part.options))
    return names


def _expand(part: str | Slot | Choice, slots: Mapping[str, tuple[str, ...]], choose: Choose) -> str:
    if isinstance(part, str):
        return part
    if isinstance(part, Slot):
        values = slots[part.name]
        return values[choose(part.name, len(values))]
    option = part.options[choose(part.source, len(part.options))]
    return "".join(_expand(item, slots, choose) for item in option)


def _parse_phrase(text: str, start: int, line: str) -> tuple[Phrase, int]:
    """Read up to the end of the text or to a `|`, `]` or `}` that belongs to the caller."""
    parts: list[str | Slot | Choice] = []
    position = start
    while position < len(text) and text[position] not in "|]}":
        if text[position] == "{":
            end = text.find("}", position)
            if end < 0:
                raise _malformed(line, "has a { that is not closed")
            parts.append(Slot(text[position + 1 : end]))
            position = end + 1
        elif text[position] == "[":
            choice, position = _parse_choice(text, position, line)
            parts.append(choice)
        else:
            end = position
            while end < len(text) and text[end] not in "[{|]}":
                end += 1
            parts.append(text[position:end])
            position = end
    return tuple(parts), position


def _parse_choice(text: str, start: int, line: str) -> tuple[Choice, int]:
    options: list[Phrase] = []
    position = start
    while True:
        option, position = _parse_phrase(text, position + 1, line)
        options.append(option)
        if position == len(text) or text[position] == "}":
            raise _malformed(line, "has a [ that is not closed")
        if text[position] == "]":
            return Choice(text[start : position + 1], tuple(options)), position + 1


def _malformed(line: str, fault: str) -> DataError:
    return DataError(
        f"template {line!r} {fault}",
        code="data.template",
        allowed="a mark (! ? . ~), a space, then text with [a|b] and {slot}",
        remedy="correct the template",
    )
