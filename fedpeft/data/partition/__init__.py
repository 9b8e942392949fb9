"""Partitioners deal the examples of one data set to clients: evenly, with label skew, with quantity skew, as they are.

A partitioner (registry kind `partitioner`) is one function; `contract.py` says what it must keep, `deal.py` checks it.
"""

from fedpeft.data.partition.contract import Partitioner
from fedpeft.data.partition.deal import deal, load_partitioner

__all__ = ["Partitioner", "deal", "load_partitioner"]
