"""The contract of a strategy: how it folds, goes on after an interruption, asks, and bears bad clients."""

from fedpeft.contracts.strategies.asking import Asking
from fedpeft.contracts.strategies.bad_clients import BadClients
from fedpeft.contracts.strategies.folding import Folding
from fedpeft.contracts.strategies.resuming import Resuming


class StrategyContract(Folding, Resuming, Asking, BadClients):
    """All that the coordinator relies on. Subclass it as `Test...`, write `build`, and run pytest.

    The toy's deltas are about 1 in size: parameters given in `build` should suit that. What a rule does otherwise, and
    says so in its documentation, is told by the attributes.

    >>> from fedpeft.strategies import FedAvg
    >>> class TestFedAvg(StrategyContract):
    ...     def build(self):
    ...         return FedAvg()
    >>> TestFedAvg().test_order_of_arrival_does_not_matter()

    Attributes:
        rounds: that the toy needs to converge; 40 unless set.
        settles: the rule ends where the clients' mean is, on the toy; False for one that picks a client.
        keeps_replies: the rule needs all replies at once, and keeps them.
        copies: of all replies, made for a moment when the round ends; 0 unless set.
        uniform: clients are sampled uniformly and independently in each round; False means equally often.
    """


__all__ = ["StrategyContract"]
