"""The language of the corpus, read from the tables beside this file: intents by domain, slots, manners."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from functools import cache
from importlib import resources

from fedpeft.data.assistant.template import Form, Template, parse

DOMAINS = ("home", "media", "time", "people", "travel", "shopping", "wellbeing")


@dataclass(frozen=True, slots=True)
class Intent:
    """Something that people want of an assistant, and the ways to say so."""

    name: str  # the label name
    domain: int  # index into DOMAINS
    templates: tuple[Template, ...]


@dataclass(frozen=True, slots=True)
class Language:
    """All that can be said."""

    intents: tuple[Intent, ...]  # in the order of the tables; an intent's place is its label
    slots: dict[str, tuple[str, ...]]
    wrappers: dict[Form, tuple[str, ...]]  # each with {say} where the utterance goes
    openers: tuple[str, ...]
    fillers: tuple[str, ...]


@cache
def load_language() -> Language:
    """Read and parse the tables (30 ms, once a process).

    Raises:
        DataError: a template is malformed.
    """
    intents = [
        Intent(name, domain, tuple(map(parse, lines)))
        for domain, domain_name in enumerate(DOMAINS)
        for name, lines in _table(f"domains/{domain_name}.toml").items()
    ]
    slots = {name: tuple(values) for group in _table("slots.toml").values() for name, values in group.items()}
    manners = _table("manners.toml")
    forms: tuple[Form, ...] = ("imperative", "question", "statement", "fragment")
    return Language(
        intents=tuple(intents),
        slots=slots,
        wrappers={form: tuple(manners[form]) for form in forms},
        openers=tuple(manners["opener"]),
        fillers=tuple(manners["filler"]),
    )


def _table(name: str) -> dict[str, dict[str, list[str]]]:
    text = resources.files(__package__).joinpath(name).read_text(encoding="utf-8")
    return tomllib.loads(text)
