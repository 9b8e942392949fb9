"""Label names as a model should read them: plain words instead of identifiers."""

from __future__ import annotations

import re
from collections.abc import Iterable

from fedpeft.errors import DataError

_WHOLE = re.compile(r"-?\d{1,18}")

# Between a lower-case letter or digit and a capital, and before the last capital of an acronym: get|HTTP|Response.
_CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")


def in_order(labels: Iterable[str]) -> list[str]:
    """The different labels, sorted: whole numbers as numbers, where all of them are.

    >>> in_order(["10", "9", "9"]), in_order(["10", "9", "x"])
    (['9', '10'], ['10', '9', 'x'])
    """
    distinct = set(labels)
    numeric = all(map(_WHOLE.fullmatch, distinct))
    return sorted(distinct, key=(lambda label: (int(label), label)) if numeric else None)


def plain_words(label: str) -> str:
    """An identifier as plain words; a label that is plain already stays as it is.

    >>> plain_words("card_arrival"), plain_words("cardArrival"), plain_words("ATM_Support"), plain_words("Sci/Tech")
    ('card arrival', 'card arrival', 'ATM support', 'Sci/Tech')
    """
    label = " ".join(label.split())
    words = [word for part in re.split(r"[_\s]+", label) for word in _CAMEL.split(part) if word]
    if "_" not in label and len(words) == len(label.split()):
        return label
    return " ".join(word if len(word) > 1 and word.isupper() else word.lower() for word in words) or label


def plain_names(labels: Iterable[str], *, origin: str) -> tuple[str, ...]:
    """`plain_words` of each label, in order.

    Raises:
        DataError: two labels become the same words; names both and `origin`, the file they come from.
    """
    first: dict[str, str] = {}
    for label in labels:
        words = plain_words(label)
        if words in first:
            raise DataError(
                f'{origin}: labels "{first[words]}" and "{label}" both read "{words}" in plain words',
                code="data.label-clash",
                allowed="labels that stay apart once underscores and capitals are gone",
                remedy="rename one of them, or make them one label",
            )
        first[words] = label
    return tuple(first)
