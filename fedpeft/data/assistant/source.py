"""The `assistant` source: the run's clients are people who train; ten further people, whom no client knows, test."""

from __future__ import annotations

import numpy as np

from fedpeft.config import RunConfig
from fedpeft.data.assistant.language import Language, load_language
from fedpeft.data.assistant.people import meet
from fedpeft.data.assistant.speech import utter
from fedpeft.data.corpus import Corpus, TextExamples, client_ids
from fedpeft.data.draws import Draws
from fedpeft.data.holdout import hold_out
from fedpeft.types import ClientId

HELD_OUT_PEOPLE = 10
HELD_OUT_EXAMPLES = 90  # of each: every intent once, the rest as the person's interests have it
_TRIES = 20  # to say something new before a person repeats an utterance


def assistant(config: RunConfig) -> Corpus:
    """Generate the corpus from `config.run.seed`.

    A person depends on the seed and on their own place only: more clients leave the earlier ones and the test set as
    they are.
    """
    language, seed, kept = load_language(), config.run.seed, config.data.client_test
    assert not isinstance(kept, str)  # "own" needs data.partition, which this source refuses
    people = [ClientId(f"c{place:02}") for place in range(config.clients)]  # whatever the width of the clients' ids
    clients = {
        client: hold_out(_speak(language, seed, person), kept, seed=seed, client=person)
        for client, person in zip(client_ids(config.clients), people, strict=True)
    }
    held_out = [_speak(language, seed, f"held-out {index}", held_out=True) for index in range(HELD_OUT_PEOPLE)]
    return Corpus(
        label_names=tuple(intent.name for intent in language.intents),
        clients=clients,
        test=TextExamples(
            tuple(text for person in held_out for text in person.texts),
            np.concatenate([person.labels for person in held_out]),
        ),
        description=(
            f"assistant: synthetic utterances of {len(language.intents)} intents by {config.clients} people, "
            f"tested on {HELD_OUT_PEOPLE} other people (seed {seed})"
        ),
    )


def _speak(language: Language, seed: int, name: str, *, held_out: bool = False) -> TextExamples:
    """All utterances of one person, different from each other as far as the person finds words."""
    person, draws = meet(language, seed, name), Draws(seed, "speech", name)
    count = len(language.intents)
    if held_out:
        rest = HELD_OUT_EXAMPLES - count
        intents = [*range(count), *(draws.weighted(person.interests) for _ in range(rest))]
    else:
        intents = [draws.weighted(person.interests) for _ in range(person.examples)]
    intents = draws.shuffled(intents)
    texts: list[str] = []
    said: set[str] = set()
    for intent in intents:
        for _ in range(_TRIES):
            text = utter(language, person, intent, draws)
            if text not in said:
                break
        said.add(text)
        texts.append(text)
    return TextExamples(tuple(texts), np.array(intents, dtype=np.int64))
