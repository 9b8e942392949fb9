"""The corpora of the shipped run files are those that their comments promise; each needs its data set."""

import os
from pathlib import Path

import numpy as np
import pytest

from fedpeft.config import load_run_file
from fedpeft.data import load_corpus

ROOT = Path(__file__).parents[2]


def corpus_of(name: str, needed: str, monkeypatch):
    named = os.environ.get("FEDPEFT_DATA")
    folder = Path(named) if named else ROOT.parent / "shared" / "data"
    if not (folder / needed).exists():
        pytest.skip(f"no {needed} in {folder}: set FEDPEFT_DATA to the folder that holds it")
    monkeypatch.setenv("FEDPEFT_DATA", str(folder))
    return load_corpus(load_run_file(ROOT / "simulations" / f"{name}.toml"))


def test_clinc150_has_a_client_for_each_domain(monkeypatch):
    corpus = corpus_of("clinc150", "clinc150", monkeypatch)
    assert len(corpus.label_names) == 150
    assert corpus.owners["c00"] == "auto_and_commute"
    assert len(set(corpus.owners.values())) == len(corpus.clients) == 10
    seen: set[int] = set()
    for data in corpus.clients.values():
        labels = set(np.unique(data.train.labels).tolist())
        assert (len(data.train), len(data.test), len(labels)) == (1500, 450, 15)
        assert labels == set(np.unique(data.test.labels).tolist())
        assert not labels & seen
        seen |= labels
    assert len(corpus.test) == 4500


def test_natural_instructions_has_a_task_for_each_client(monkeypatch):
    corpus = corpus_of("natural_instructions", "natural_instructions_cls.jsonl.xz", monkeypatch)
    assert (len(corpus.clients), len(corpus.label_names), len(corpus.test)) == (406, 355, 23_484)
    assert sum(len(data.train) for data in corpus.clients.values()) == 93_527
    assert sum(len(data.test) for data in corpus.clients.values()) == 23_484
    for data in corpus.clients.values():
        assert len(data.test) >= 2
        (choices,) = set(data.train.choices) | set(data.test.choices)  # one set of labels a client
        assert 2 <= len(choices) <= 6
    first = corpus.clients["c000"].train
    assert {corpus.label_names[label] for label in first.choices[0]} == {"Business", "Sci/Tech", "Sports", "World"}
    assert " In this task, you are given a news article." in first.texts[0]  # behind the article
