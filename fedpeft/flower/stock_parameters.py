"""Parameters of Flower's strategies that decide nothing here: whoever sets one is told what decides in its place.

Only Flower's own constructors are known to use them for that alone. A class that has a constructor of its own may take
a parameter of the same name, and what it hands on to Flower's is its own affair.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from flwr.serverapp import strategy as flowers

from fedpeft.errors import PluginError

_ROUND, _EVALUATION, _RECORDS = "round.ask and round.min_replies", "[evaluation]", "the frame's own format"
MOOT: dict[str, str] = {
    "fraction_train": _ROUND,
    "min_train_nodes": _ROUND,
    "min_available_nodes": _ROUND,
    "fraction_evaluate": _EVALUATION,
    "min_evaluate_nodes": _EVALUATION,
    "evaluate_metrics_aggr_fn": _EVALUATION,
    "train_metrics_aggr_fn": "the journal, which has every client's metrics",
    "arrayrecord_key": _RECORDS,
    "configrecord_key": _RECORDS,
    "weighted_by_key": _RECORDS,
    "eta_l": "local.learning_rate",
}
"""Constructor parameters without an effect here, and what decides in their place."""


def check_given(kind: type[flowers.Strategy], params: Mapping[str, Any]) -> None:
    """Refuse a parameter that would have no effect.

    Args:
        kind: a strategy of Flower, or a class derived from one.
        params: what its constructor is to be called with.

    Raises:
        PluginError: code `strategy.flower-parameter`.
    """
    own = () if _is_flowers(kind) else inspect.signature(kind).parameters
    for name, value in params.items():
        if name in MOOT and name not in own:
            raise _moot(kind, name, value)


def check_set(inner: flowers.Strategy) -> None:
    """As `check_given`, for a strategy that somebody else has made: by its attributes.

    One with a constructor of its own is not looked at.

    Raises:
        PluginError: code `strategy.flower-parameter`.
    """
    kind, usual = type(inner), flowers.FedAvg()
    if not _is_flowers(kind):
        return
    for name, parameter in inspect.signature(kind).parameters.items():
        if name in MOOT:
            default = getattr(usual, name) if parameter.default is None else parameter.default  # None: Flower's own
            if (value := getattr(inner, name, default)) != default:
                raise _moot(kind, name, value)


def _is_flowers(kind: type[flowers.Strategy]) -> bool:
    """Whether the constructor is Flower's."""
    return str(getattr(kind.__init__, "__module__", "")).startswith("flwr.")


def _moot(kind: type[flowers.Strategy], name: str, value: object) -> PluginError:
    allowed = [key for key in inspect.signature(kind).parameters if key not in MOOT]
    return PluginError(
        f'strategy "flower:{kind.__name__}": {name} = {value!r} has no effect here',
        code="strategy.flower-parameter",
        allowed=", ".join(allowed) or "none",
        remedy=f"remove {name}: what counts is {MOOT[name]}",
    )
