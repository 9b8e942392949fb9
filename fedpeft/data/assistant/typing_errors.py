"""The slips of a thumb: two letters swapped, one dropped, one doubled, or a neighbouring key hit instead."""

from __future__ import annotations

from fedpeft.data.draws import Draws

_ROWS = ("qwertyuiop", "asdfghjkl", "zxcvbnm")
NEIGHBOURS = {
    letter: row[max(0, place - 1) : place] + row[place + 1 : place + 2]
    for row in _ROWS
    for place, letter in enumerate(row)
}
SHORTEST = 4  # letters; shorter words are left alone, since one slip makes another word of them


def mistype(text: str, rate: float, draws: Draws) -> str:
    """The text with slips in some of its words, never in a word's first letter.

    Args:
        text: words parted by single spaces.
        rate: chance of one slip in each word of at least four letters, in [0, 1].
        draws: where the chance comes from.
    """
    if rate <= 0:
        return text
    words = text.split(" ")
    return " ".join(_slip(word, draws) if _can_slip(word) and draws.chance(rate) else word for word in words)


def _can_slip(word: str) -> bool:
    return len(word) >= SHORTEST and word.isalpha() and word.isascii()


def _slip(word: str, draws: Draws) -> str:
    kind = draws.below(4)
    place = 1 + draws.below(len(word) - 2)  # neither the first letter nor the last
    before, letter, after = word[:place], word[place], word[place + 1 :]
    if kind == 0:
        return before + after[0] + letter + after[1:]
    if kind == 1:
        return before + after
    if kind == 2:
        return before + letter + letter + after
    return before + draws.pick(NEIGHBOURS[letter.lower()]) + after
