"""Templates parse, expand and complain."""

import pytest

from fedpeft.data.assistant.template import expand, parse, slot_names
from fedpeft.errors import DataError

SLOTS = {"room": ("kitchen", "attic")}


def first(choice: str, options: int) -> int:
    return 0


def last(choice: str, options: int) -> int:
    return options - 1


def test_choices_nest_and_empty_options_leave_no_gap():
    template = parse("! [turn|switch [right|]] on the {room} [lights|], [now|]")
    assert template.form == "imperative"
    assert expand(template.phrase, SLOTS, first) == "turn on the kitchen lights, now"
    assert expand(template.phrase, SLOTS, last) == "switch on the attic,"


def test_a_choice_is_known_by_its_source():
    asked = []

    def choose(choice: str, options: int) -> int:
        asked.append((choice, options))
        return 0

    expand(parse("? is [the|a|my] {room} dark").phrase, SLOTS, choose)
    assert asked == [("[the|a|my]", 3), ("room", 2)]


def test_slot_names_looks_into_choices():
    assert slot_names(parse("~ {a} [x|[{b}|{c} y]]").phrase) == {"a", "b", "c"}


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        ("turn it on", "does not start with a mark"),
        ("!", "does not start with a mark"),
        ("! [a|b", r"has a \[ that is not closed"),
        ("! [a} b]", r"has a \[ that is not closed"),
        ("! {room", r"has a \{ that is not closed"),
        ("! a] b", "closes or parts something that is not open"),
        ("! a|b", "closes or parts something that is not open"),
    ],
)
def test_malformed_templates_are_quoted(line, fault):
    with pytest.raises(DataError, match=fault) as caught:
        parse(line)
    assert repr(line) in str(caught.value)
