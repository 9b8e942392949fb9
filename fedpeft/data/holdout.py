"""Each client keeps a share of its examples for its own evaluation."""

from __future__ import annotations

from fedpeft.data.corpus import ClientData, TextExamples
from fedpeft.data.draws import Draws
from fedpeft.types import ClientId


def hold_out(examples: TextExamples, share: float, *, seed: int, client: ClientId) -> ClientData:
    """Split one client's examples into train and test, both in their first order.

    The test split has `share` of the n examples, rounded; at least 1 if `share` > 0 and n >= 2; never all of them.

    Args:
        examples: all of the client's, n.
        share: in [0, 1); 0 keeps none.
        seed: of the run. With `client` it fixes which are kept, whatever the other clients hold.
        client: whose examples these are.
    """
    count = len(examples)
    kept = min(max(1, round(share * count)), count - 1) if share > 0 and count >= 2 else 0
    order = Draws(seed, "hold out", client).shuffled(range(count))
    return ClientData(train=examples.take(sorted(order[kept:])), test=examples.take(sorted(order[:kept])))
