"""A local objective that comes in a file, beside its strategy or in the same one.

A strategy names it as `objective = "elastic_net.py:ElasticNet"`, relative to its own file. Paths differ from machine to
machine, so in plans and hellos it goes by a name made of the file's name and contents: a client that has no such file
beside its run file, or another version of it, is refused by name before the round.
"""

from __future__ import annotations

import sys
from pathlib import Path

from fedpeft.plugin_files import forget_edited, is_offer, offer
from fedpeft.strategies.base import Strategy


def settle_objective(strategy: Strategy) -> None:
    """Give the strategy's objective the name that it has on both sides; a registered name stays. For a run's beginning.

    Raises:
        PluginError: no such file or class.
    """
    forget_edited()  # the strategy may have been made long ago
    if ".py:" in strategy.objective and not is_offer(strategy.objective):
        strategy.objective = offer("objective", strategy.objective, _folder_of(type(strategy)))


def _folder_of(kind: type) -> Path:
    """Where the class was written; the working folder for one of a notebook."""
    file = getattr(sys.modules.get(kind.__module__), "__file__", None)
    return Path(file).resolve().parent if file else Path.cwd()
