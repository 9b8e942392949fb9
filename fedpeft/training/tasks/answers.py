"""How good a written answer is: exact match, and ROUGE-L.

    ROUGE-L (Lin 2004, "ROUGE: A Package for Automatic Evaluation of Summaries", equations 2 to 4):
    R = LCS(X, Y) / |X|     P = LCS(X, Y) / |Y|     F = 2 R P / (R + P)      X: reference, Y: answer, in words

Words are runs of letters and digits in lower case, without stemming.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

_WORD = re.compile(r"[^\W_]+")


def exact_match(answer: str, reference: str) -> float:
    """1 if both are the same text, white space aside; else 0.

    >>> exact_match(" card  arrival ", "card arrival"), exact_match("Card arrival", "card arrival")
    (1.0, 0.0)
    """
    return float(answer.split() == reference.split())


def rouge_l(answer: str, reference: str) -> float:
    """F of the longest common subsequence of words, from 0 to 1; two texts without words are equal.

    >>> rouge_l("police killed the gunman", "police kill the gunman"), rouge_l("the gunman police killed", "police")
    (0.75, 0.4)
    """
    x, y = _WORD.findall(reference.lower()), _WORD.findall(answer.lower())
    if not x or not y:
        return float(x == y)
    common = _longest_common(x, y)
    return 2.0 * common / (len(x) + len(y))  # = 2 R P / (R + P)


def _longest_common(x: Sequence[str], y: Sequence[str]) -> int:
    """Length of the longest common subsequence, by one row of the table at a time."""
    row = [0] * (len(y) + 1)
    for word in x:
        diagonal = 0
        for place, other in enumerate(y, start=1):
            above = row[place]
            row[place] = diagonal + 1 if word == other else max(above, row[place - 1])
            diagonal = above
    return row[-1]
