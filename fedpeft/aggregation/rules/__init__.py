"""Rules of mixing: how the LoRA factors of clients, of one rank or of several, become one pair a layer.

`Rule` is the contract. One file each: `FedIT`, `HetLoRA`, `FlexLoRA`, `LoraFair`, `FedEx`, `FLoRA`, `ExactMix`; a run
file names them as `aggregation.rule`. NumPy only. With a `RankDecay` a rule lowers its clients' ranks as well.
"""

from fedpeft.aggregation.rules.base import Flags, LayerRound, Mixed, Rule, Trained
from fedpeft.aggregation.rules.exact_mix import ExactMix
from fedpeft.aggregation.rules.fedex import FedEx
from fedpeft.aggregation.rules.fedit import FedIT
from fedpeft.aggregation.rules.flexlora import FlexLoRA
from fedpeft.aggregation.rules.flora import FLoRA
from fedpeft.aggregation.rules.hetlora import HetLoRA
from fedpeft.aggregation.rules.lora_fair import LoraFair
from fedpeft.aggregation.rules.rank_decay import RankDecay

__all__ = [
    "ExactMix",
    "FLoRA",
    "FedEx",
    "FedIT",
    "Flags",
    "FlexLoRA",
    "HetLoRA",
    "LayerRound",
    "LoraFair",
    "Mixed",
    "RankDecay",
    "Rule",
    "Trained",
]
