"""The counts of a split: by client and label, through JSON and back, of a choice of very many clients."""

import json

import numpy as np

from fedpeft.data import ClientData, Corpus, PromptExamples, TextExamples, client_ids
from fedpeft.data.split import MOST_CLIENTS, DataSplit, split_of

TEST = TextExamples(("x",), np.array([0]))


def client(*labels: int) -> ClientData:
    return ClientData(TextExamples(("t",) * len(labels), np.array(labels, dtype=np.int64)), TEST.take([]))


def test_counts_and_names():
    corpus = Corpus(("a", "b", "c"), {"c00": client(2, 0, 2), "c01": client(1)}, TEST, "two", owners={"c00": "banking"})
    split = split_of(corpus)
    assert split == DataSplit(("a", "b", "c"), ("c00 banking", "c01"), (3, 1), ((0, 1, 2, 2), (1, 1)), 2)
    assert DataSplit.from_payload(json.loads(json.dumps(split.to_payload()))) == split


def test_prompts_have_sizes_only():
    chat = ({"role": "assistant", "content": "x"},)
    prompts = PromptExamples((chat, chat))
    corpus = Corpus((), {"c00": ClientData(prompts, prompts.take([]))}, prompts, "prompts")
    assert split_of(corpus) == DataSplit((), ("c00",), (2,), ((),), 1)


def test_of_very_many_clients_an_even_choice_is_counted():
    many = 2 * MOST_CLIENTS + 1
    corpus = Corpus(("a",), dict.fromkeys(client_ids(many), client(0)), TEST, "many")
    split = split_of(corpus)
    assert (len(split.clients), split.of) == (MOST_CLIENTS, many)
    assert split.clients[:2] == ("c0000", "c0002")
    assert len(set(split.clients)) == MOST_CLIENTS
