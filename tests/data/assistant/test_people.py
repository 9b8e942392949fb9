"""People have habits: their own interests, their own favourite words, and they are themselves again next time."""

from collections import Counter
from dataclasses import replace

import pytest

from fedpeft.data.assistant.language import load_language
from fedpeft.data.assistant.people import FEWEST, MOST, meet
from fedpeft.data.assistant.speech import utter
from fedpeft.data.assistant.typing_errors import mistype
from fedpeft.data.draws import Draws

LANGUAGE = load_language()
PEOPLE = [meet(LANGUAGE, 7, f"c{index:02d}") for index in range(40)]
PLAIN = replace(
    PEOPLE[0],
    polite=0.0,
    opens=0.0,
    fills=0.0,
    contracts=0.0,
    punctuates=0.0,
    typing_errors=0.0,
    apostrophes=True,
    capitals=True,
)


def test_the_same_name_is_the_same_person():
    assert meet(LANGUAGE, 7, "c00") == meet(LANGUAGE, 7, "c00") == replace(PEOPLE[0])
    assert meet(LANGUAGE, 8, "c00").interests != PEOPLE[0].interests


def test_people_differ_in_how_much_they_say():
    sizes = [person.examples for person in PEOPLE]
    assert all(FEWEST <= size <= MOST for size in sizes)
    assert max(sizes) > 2 * min(sizes)


def test_favourites_come_first_and_are_ones_own():
    def favourite(person) -> int:
        draws = Draws(1, "favourite")
        counts = Counter(person.choose("artist", 10, draws) for _ in range(2000))
        best, count = counts.most_common(1)[0]
        assert len(counts) == 10
        assert count / 2000 == pytest.approx(0.1**0.5, abs=0.04)
        return best

    assert len({favourite(person) for person in PEOPLE[:10]}) > 3


def say(person, draws: Draws, count: int = 200) -> list[str]:
    return [utter(LANGUAGE, person, index % len(LANGUAGE.intents), draws) for index in range(count)]


def test_each_habit_shows():
    plain = say(PLAIN, Draws(1, "plain"))
    assert all(text[0].isupper() or not text[0].isalpha() for text in plain)
    assert not any(text.endswith((".", "?")) for text in plain)
    assert not any("I'm" in text or "don't" in text for text in plain)
    assert not any(character in text for text in plain for character in "[]{}|")
    contracted = say(replace(PLAIN, contracts=1.0), Draws(1, "plain"))
    assert any("I'm" in text for text in contracted)
    assert not any("I am " in text for text in contracted)
    assert not any("'" in text for text in say(replace(PLAIN, contracts=1.0, apostrophes=False), Draws(1, "plain")))
    assert all(text == text.lower() for text in say(replace(PLAIN, capitals=False), Draws(1, "plain")))
    assert sum(text.endswith(("?", ".")) for text in say(replace(PLAIN, punctuates=1.0), Draws(1, "plain"))) > 150
    polite = say(replace(PLAIN, polite=1.0), Draws(1, "plain"))
    assert sum("lease" in text or "ould you" in text or "an you" in text for text in polite) > 40


def test_openers_and_fillers_start_the_utterance():
    opened = say(replace(PLAIN, opens=1.0), Draws(1, "plain"))
    assert all(text.split(",")[0].lower() in LANGUAGE.openers for text in opened)
    filled = say(replace(PLAIN, fills=1.0), Draws(1, "plain"))
    assert all(text.split(",")[0].lower() in LANGUAGE.fillers for text in filled)


def test_slips_hit_longer_words_once_and_spare_their_first_letter():
    text = "turn on the kitchen lights at 18:30, Grandma's orders"
    slipped = [mistype(text, 1.0, Draws(1, "slip", index)) for index in range(50)]
    assert all(len(line.split(" ")) == len(text.split(" ")) for line in slipped)
    for line in slipped:
        for before, after in zip(text.split(" "), line.split(" "), strict=True):
            assert before[0] == after[0]
            assert abs(len(before) - len(after)) <= 1
            if before in ("on", "the", "at", "18:30,", "Grandma's"):
                assert after == before
    assert {len(line) for line in slipped} > {len(text)}
    assert mistype(text, 0.0, Draws(1, "slip")) == text
