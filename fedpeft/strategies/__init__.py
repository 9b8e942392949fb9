"""Policy of a round: whom to ask, for what, and how to fold the answers.

`Strategy` is the plug-in surface; its docstring is a runnable toy. Built in, each under its name in small letters:
`FedAvg`, `FedProx`, `FedAvgM`, `FedBuff`, `FedAdam`, `FedYogi`, `FedAdagrad`, `Scaffold`, `FedSA`, `FFA`, `RoLoRA`,
`Median` and, as `trimmed-mean` and `sign-vote`, `TrimmedMean` and `SignVote`. Each is a file that opens with its paper,
its equation and what it transmits; each passes the contract in `fedpeft/contracts/`.
"""

from fedpeft.strategies.base import Strategy
from fedpeft.strategies.fedadagrad import FedAdagrad
from fedpeft.strategies.fedadam import FedAdam
from fedpeft.strategies.fedavg import FedAvg
from fedpeft.strategies.fedavgm import FedAvgM
from fedpeft.strategies.fedbuff import FedBuff
from fedpeft.strategies.fedprox import FedProx
from fedpeft.strategies.fedsa import FedSA
from fedpeft.strategies.fedyogi import FedYogi
from fedpeft.strategies.ffa import FFA
from fedpeft.strategies.median import Median
from fedpeft.strategies.rolora import RoLoRA
from fedpeft.strategies.scaffold import Scaffold
from fedpeft.strategies.sign_vote import SignVote
from fedpeft.strategies.trimmed_mean import TrimmedMean

__all__ = [
    "FFA",
    "FedAdagrad",
    "FedAdam",
    "FedAvg",
    "FedAvgM",
    "FedBuff",
    "FedProx",
    "FedSA",
    "FedYogi",
    "Median",
    "RoLoRA",
    "Scaffold",
    "SignVote",
    "Strategy",
    "TrimmedMean",
]
