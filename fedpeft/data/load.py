"""From a run file's `[data]` table to a corpus: find the source by name, call it, check what it returns."""

from __future__ import annotations

from typing import Protocol

from fedpeft import registry
from fedpeft.config import RunConfig
from fedpeft.data.corpus import Corpus, client_ids
from fedpeft.data.dealing import examples_kind
from fedpeft.data.examples import EXAMPLES
from fedpeft.data.holdout import limited
from fedpeft.errors import PluginError


class Source(Protocol):
    """The contract of a data source (registry kind `source`): one function.

    It reads what it needs from the run file, draws only from `config.run.seed`, and names its clients `client_ids`.
    A source of one's own, in a file that a run file names as `data.source = "colours.py:colours"`:

    >>> import numpy as np
    >>> from fedpeft.config import parse_config
    >>> from fedpeft.data import ClientData, Corpus, TextExamples, client_ids
    >>> def colours(config):
    ...     sky = TextExamples(("the sky", "a lemon"), np.array([0, 1]))
    ...     clients = {client: ClientData(train=sky, test=sky.take([])) for client in client_ids(config.clients)}
    ...     return Corpus(("blue", "yellow"), clients, test=sky, description="synthetic: two colours")
    >>> config = parse_config(
    ...     {"run": {"name": "toy", "rounds": 1}, "model": {"source": "m"}, "round": {"ask": 2},
    ...      "devices": [{"name": "phone", "clients": 3}]}, origin="toy")
    >>> corpus = colours(config)
    >>> list(corpus.clients), corpus.test.texts, corpus.test.labels.tolist()
    (['c00', 'c01', 'c02'], ('the sky', 'a lemon'), [0, 1])
    """

    def __call__(self, config: RunConfig) -> Corpus:
        """The corpus of the run.

        Raises:
            DataError: data is missing, empty or malformed.
        """


def load_corpus(config: RunConfig) -> Corpus:
    """The corpus that `config.data` names, the same one for the same `config.run.seed`.

    Raises:
        DataError: data is missing, empty or malformed.
        PluginError: there is no such source, or it does not return a corpus of the run's clients, or its examples are
            not those that the run's task reads.
    """
    source: Source = registry.load("source", config.data.source)
    corpus: object = source(config)
    expected, wanted = client_ids(config.clients), examples_kind(config)
    if not isinstance(corpus, Corpus):
        found = f"a {type(corpus).__name__}"
    elif tuple(corpus.clients) != expected:
        found = f"a corpus of {len(corpus.clients)} clients: {', '.join([*corpus.clients][:3])}, ..."
    elif not isinstance(corpus.test, EXAMPLES[wanted]):
        raise PluginError(
            f'model.task = "{config.model.task}" reads {wanted} examples, and source "{config.data.source}" has '
            f"{type(corpus.test).__name__}",
            code="plugin.source-examples",
            allowed=f"a Corpus of {EXAMPLES[wanted].__name__}",
            remedy="set another model.task, or another data.source",
        )
    else:
        return limited(corpus, config.data.client_examples, config.run.seed)
    raise PluginError(
        f'source "{config.data.source}" returned {found}',
        code="plugin.source-contract",
        allowed=f"a Corpus of {len(expected)} clients, {expected[0]} to {expected[-1]}",
        remedy="return a fedpeft.data.Corpus whose clients are client_ids(config.clients)",
    )
