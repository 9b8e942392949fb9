"""How a person says something: a favourite template in favourite words, wrapped, contracted, typed."""

from __future__ import annotations

import re

from fedpeft.data.assistant.language import Language
from fedpeft.data.assistant.people import Person
from fedpeft.data.assistant.template import Form, expand
from fedpeft.data.assistant.typing_errors import mistype
from fedpeft.data.draws import Draws

CONTRACTIONS = {
    "I am": "I'm", "I will": "I'll", "I would": "I'd", "we are": "we're", "you are": "you're", "let us": "let's",
    "it is": "it's", "that is": "that's", "what is": "what's", "where is": "where's", "who is": "who's",
    "how is": "how's", "when is": "when's", "there is": "there's",
    "do not": "don't", "does not": "doesn't", "did not": "didn't", "cannot": "can't", "could not": "couldn't",
    "is not": "isn't", "are not": "aren't", "was not": "wasn't", "has not": "hasn't", "have not": "haven't",
    "will not": "won't", "would not": "wouldn't", "must not": "mustn't",
}  # fmt: skip
# Only before a further word: "I do not know where it is" keeps its end.
_CONTRACTIBLE = re.compile(r"\b(" + "|".join(CONTRACTIONS) + r")\b(?= \w)")


def utter(language: Language, person: Person, intent: int, draws: Draws) -> str:
    """One utterance of this person with this intent, in plain text.

    Args:
        language: what can be said.
        person: whose habits hold.
        intent: index into `language.intents`.
        draws: where the chance comes from.
    """

    def choose(choice: str, options: int) -> int:
        return person.choose(choice, options, draws)

    templates = language.intents[intent].templates
    template = templates[choose(f"intent {intent}", len(templates))]
    text = expand(template.phrase, language.slots, choose)
    asks = template.form == "question"
    if draws.chance(person.polite if template.form == "imperative" else person.polite / 4):
        wrappers = language.wrappers[template.form]
        wrapper = wrappers[choose(f"wrapper {template.form}", len(wrappers))]
        asks = asks or wrapper.endswith("?")
        text = wrapper.rstrip("?").replace("{say}", text)
    text = _start(text, language, person, draws)
    return _type(text, "question" if asks else template.form, person, draws)


def _start(text: str, language: Language, person: Person, draws: Draws) -> str:
    for chance, kind, words in ((person.fills, "filler", language.fillers), (person.opens, "opener", language.openers)):
        if draws.chance(chance):
            text = f"{words[person.choose(kind, len(words), draws)]}, {text}"
    return text


def _type(text: str, form: Form, person: Person, draws: Draws) -> str:
    """The utterance as this person's thumbs make it."""
    if draws.chance(person.contracts):
        text = _CONTRACTIBLE.sub(lambda match: CONTRACTIONS[match[0]], text)
    text = mistype(text, person.typing_errors, draws)
    if not person.apostrophes:
        text = text.replace("'", "")
    text = text[0].upper() + text[1:] if person.capitals else text.lower()
    if draws.chance(person.punctuates):
        text += "?" if form == "question" else "" if form == "fragment" else "."
    return text
