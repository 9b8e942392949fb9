"""People with habits: what each talks about, in which words, how politely, how carefully, and how much."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from hashlib import blake2b

from fedpeft.data.assistant.language import DOMAINS, Language
from fedpeft.data.draws import Draws

MEDIAN_EXAMPLES = 105  # utterances that a client has in the middle of the log-normal
SPREAD = 0.45  # its standard deviation in log space
FEWEST, MOST = 46, 240  # bounds of it
DOMAIN_SKEW = 1.1  # log-normal spread of the interest in a domain
INTENT_SKEW = 0.5  # and in an intent within it


@dataclass(slots=True)
class Person:
    """One person's habits; all chances are in [0, 1] and per utterance unless said otherwise."""

    name: str
    interests: tuple[float, ...]  # weight of each intent
    examples: int  # how many utterances there are of this person
    polite: float  # wraps the utterance: "could you ...?"
    opens: float  # starts with "hey", "ok", ...
    fills: float  # ... or with "um", "well", ...
    contracts: float  # "it is" -> "it's"
    punctuates: float  # ends with "." or "?"
    typing_errors: float  # per word
    apostrophes: bool  # types them at all
    capitals: bool  # types any at all
    _ranks: dict[str, list[int]] = field(default_factory=dict, init=False, repr=False, compare=False)

    def choose(self, choice: str, options: int, draws: Draws) -> int:
        """One of the options of a choice, this person's favourites first.

        Everyone ranks the options in an order of their own. With u uniform in [0, 1), the option of rank ⌊n u²⌋ is
        taken: of n = 4 the favourite every second time, of n = 10 every third time.
        """
        ranks = self._ranks.get(choice)
        if ranks is None:
            keys = [blake2b(f"{self.name}|{choice}|{option}".encode()).digest() for option in range(options)]
            ranks = self._ranks[choice] = sorted(range(options), key=keys.__getitem__)
        return ranks[int(options * draws.uniform() ** 2)]


def meet(language: Language, seed: int, name: str) -> Person:
    """The person of this name under this seed; who else takes part does not matter.

    Args:
        language: the intents to have interests in.
        seed: of the run.
        name: e.g. a client id.
    """
    draws = Draws(seed, "habits", name)
    domains = [math.exp(DOMAIN_SKEW * draws.normal()) for _ in DOMAINS]
    interests = tuple(domains[intent.domain] * math.exp(INTENT_SKEW * draws.normal()) for intent in language.intents)
    size = round(MEDIAN_EXAMPLES * math.exp(SPREAD * draws.normal()))
    return Person(
        name=f"{seed}|{name}",
        interests=interests,
        examples=min(max(size, FEWEST), MOST),
        polite=draws.uniform(0.0, 0.6),
        opens=draws.uniform(0.0, 0.3),
        fills=draws.uniform(0.0, 0.2),
        contracts=draws.uniform(0.2, 1.0),
        punctuates=draws.uniform(0.0, 1.0),
        typing_errors=0.08 * draws.uniform() ** 2,
        apostrophes=draws.chance(0.7),
        capitals=draws.chance(0.5),
    )
