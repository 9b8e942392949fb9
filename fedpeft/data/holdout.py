"""Each client keeps a share of its examples for its own evaluation, and may use no more than so many of either."""

from __future__ import annotations

from dataclasses import replace

from fedpeft.data.corpus import ClientData, Corpus, Examples
from fedpeft.data.draws import Draws
from fedpeft.types import ClientId


def hold_out(examples: Examples, share: float, *, seed: int, client: ClientId) -> ClientData:
    """Split one client's examples into train and test, both in their first order.

    The test split has `share` of the n examples, rounded; at least 1 if `share` > 0 and n >= 2; never all of them.

    Args:
        examples: all of the client's, n.
        share: in [0, 1); 0 keeps none.
        seed: of the run. With `client` it fixes which are kept, whatever the other clients hold.
        client: whose examples these are.
    """
    train, test = split_places(len(examples), share, seed=seed, client=client, what_for="hold out")
    return ClientData(train=examples.take(train), test=examples.take(test))


def split_places(
    count: int, share: float, *, seed: int, client: ClientId, what_for: str
) -> tuple[list[int], list[int]]:
    """The places of one client's examples that it goes on with, and of those that it puts aside, both ascending.

    Args:
        count: of its examples.
        share: to put aside, in [0, 1), rounded; at least 1 if `share` > 0 and `count` >= 2; never all of them.
        seed: of the run.
        client: whose.
        what_for: names the draw: with the seed and the client it fixes which.
    """
    kept = min(max(1, round(share * count)), count - 1) if share > 0 and count >= 2 else 0
    order = Draws(seed, what_for, client).shuffled(range(count))
    return sorted(order[kept:]), sorted(order[:kept])


def limited(corpus: Corpus, most: int, seed: int) -> Corpus:
    """The corpus with at most so many training and so many test examples of each client, in their first order.

    Args:
        corpus: of the run.
        most: of each client and split; 0 leaves all.
        seed: of the run. With the client it fixes which are used; a larger `most` keeps those of a smaller one.
    """
    if most == 0:
        return corpus

    def part(examples: Examples, client: ClientId, split: str) -> Examples:
        if len(examples) <= most:
            return examples
        return examples.take(sorted(Draws(seed, "limit", split, client).shuffled(range(len(examples)))[:most]))

    clients = {
        client: ClientData(part(data.train, client, "train"), part(data.test, client, "test"))
        for client, data in corpus.clients.items()
    }
    return replace(corpus, clients=clients, description=f"{corpus.description}; at most {most:,} of a client are used")
