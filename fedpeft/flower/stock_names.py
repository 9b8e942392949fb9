"""`flower:Name` in a run file -> a Flower strategy, made with the run file's parameters and wrapped.

The registry comes here with what stands behind `flower:`: a name of `flwr.serverapp.strategy`, `path/file.py:Class` or
`package.module:Class`. The constructor's parameters are the run file's; one that would have no effect is refused, since
here the coordinator decides what it decides in Flower.
"""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flwr.serverapp import strategy as flowers

from fedpeft.errors import PluginError, closest
from fedpeft.flower.stock import REFUSED, Stock, known, refusal
from fedpeft.flower.stock_parameters import check_given
from fedpeft.flower.stock_stage import quiet
from fedpeft.registry import load


@dataclass(frozen=True, slots=True)
class Made:
    """Makes one kind of Flower strategy; called with the run file's parameters, as a class would be."""

    kind: type[flowers.Strategy]

    @property
    def __signature__(self) -> inspect.Signature:
        """The constructor's parameters: what the registry checks names against."""
        return inspect.signature(self.kind)

    def __call__(self, **params: Any) -> Stock:
        """The strategy, wrapped.

        Raises:
            ValueError: what Flower refuses.
            PluginError: a parameter that has no effect here; or see `Stock`.
        """
        check_given(self.kind, params)
        with quiet():
            return Stock(self.kind(**params))


def stock(name: str, folder: Path) -> Made:
    """What makes the Flower strategy of that name.

    Args:
        name: as it stands behind `flower:`.
        folder: against which a relative path is taken.

    Raises:
        PluginError: there is none, or it cannot run here.
    """
    if ":" in name:
        kind = load("strategy", name, relative_to=folder)
    elif name in REFUSED:
        raise refusal(name, REFUSED[name])
    elif name in known():
        kind = getattr(flowers, name)
    else:
        raise PluginError(
            f'strategy "flower:{name}" is not known',
            code="plugin.unknown-strategy",
            allowed=", ".join(known()) + "; or flower:path/file.py:Class",
            remedy=closest(name, known()) or "name one of these",
        )
    if not (inspect.isclass(kind) and issubclass(kind, flowers.Strategy)):
        raise PluginError(
            f'strategy "flower:{name}" is not a class derived from flwr.serverapp.strategy.Strategy',
            code="strategy.flower-none",
            allowed="a subclass of it, e.g. of flwr.serverapp.strategy.FedAvg",
            remedy='name a strategy of fedpeft without "flower:"',
        )
    return Made(kind)
