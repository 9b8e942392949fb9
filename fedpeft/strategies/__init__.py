"""Policy of a round: whom to ask, for what, and how to fold the answers.

`Strategy` is the plug-in surface; its docstring is a runnable toy. `FedAvg`, `FedProx`, `FedAvgM` and `FedAdam` are
built in under the names `fedavg`, `fedprox`, `fedavgm` and `fedadam`. Each is one file that opens with its paper, its
equation and what it transmits; each passes `tests/contracts/test_strategies.py`.
"""

from fedpeft.strategies.base import Strategy
from fedpeft.strategies.fedadam import FedAdam
from fedpeft.strategies.fedavg import FedAvg
from fedpeft.strategies.fedavgm import FedAvgM
from fedpeft.strategies.fedprox import FedProx

__all__ = ["FedAdam", "FedAvg", "FedAvgM", "FedProx", "Strategy"]
