"""The tables keep what the corpus promises: enough intents, enough ways to say each, no slot without values."""

from collections import Counter

import pytest

from fedpeft.data.assistant.language import DOMAINS, load_language
from fedpeft.data.assistant.template import expand, slot_names

LANGUAGE = load_language()


def test_intents_and_domains():
    assert len(LANGUAGE.intents) == 42
    assert Counter(intent.domain for intent in LANGUAGE.intents) == dict.fromkeys(range(len(DOMAINS)), 6)
    names = [intent.name for intent in LANGUAGE.intents]
    assert len(set(names)) == len(names)
    assert all(name == name.strip() and 2 <= len(name.split()) <= 6 for name in names)


@pytest.mark.parametrize("intent", LANGUAGE.intents, ids=lambda intent: intent.name)
def test_each_intent_can_be_said_in_many_ways(intent):
    assert len(intent.templates) >= 10
    assert len(set(intent.templates)) == len(intent.templates)
    assert len({template.form for template in intent.templates}) >= 3


def test_every_slot_has_values_and_every_value_a_use():
    used = {
        name for intent in LANGUAGE.intents for template in intent.templates for name in slot_names(template.phrase)
    }
    assert used == set(LANGUAGE.slots)
    for name, values in LANGUAGE.slots.items():
        assert len(values) >= 6, name
        assert len(set(values)) == len(values), name


def test_no_template_means_two_things():
    meanings: dict[str, set[str]] = {}
    for intent in LANGUAGE.intents:
        for template in intent.templates:
            for favourite in range(4):
                text = expand(template.phrase, LANGUAGE.slots, lambda _, options, n=favourite: n % options)
                meanings.setdefault(text, set()).add(intent.name)
    assert not {text: names for text, names in meanings.items() if len(names) > 1}


def test_every_wrapper_has_a_place_for_the_utterance():
    for wrappers in LANGUAGE.wrappers.values():
        assert all(wrapper.count("{say}") == 1 for wrapper in wrappers)
