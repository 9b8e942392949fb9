"""Where the examples come from: sources (generated, CSV), partitioners that deal them to clients, and the corpus.

`load_corpus` turns a run file's `[data]` table into a `Corpus`: label names, each client's own train and test
examples, and one test set that no client trains on. No torch here: texts and int64 labels only.
"""

from fedpeft.data.corpus import ClientData, Corpus, Examples, ImageExamples, PromptExamples, TextExamples, client_ids
from fedpeft.data.load import Source, load_corpus

__all__ = [
    "ClientData",
    "Corpus",
    "Examples",
    "ImageExamples",
    "PromptExamples",
    "Source",
    "TextExamples",
    "client_ids",
    "load_corpus",
]
