"""The optimizer state of a Flower strategy, as arrays that a snapshot stores.

Flower's strategies have no `state_dict`. What they learn lies in their attributes: moments as dictionaries of arrays,
a momentum vector as a list of them, the last model as an `ArrayRecord`. `Memory` keeps every attribute, whether it was
replaced or changed in place; `stock_values.py` says of which kinds they may be. A strategy that keeps anything else is
refused: as it is made, if its constructor does so already, else when its state is next saved.

A saved state is `leaf0`, `leaf1`, ...: the arrays, in their own dtypes; and `tree`: JSON in UTF-8, uint8, which says
where they belong.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from fedpeft.errors import PluginError
from fedpeft.flower.stock_values import ALLOWED, Unkeepable, Values
from fedpeft.strategies.base import State


class Memory:
    """What an object has learnt since it was made.

    Args:
        subject: a Flower strategy, as its constructor left it.

    Raises:
        PluginError: it has an attribute that cannot be kept (code `strategy.flower-state`).
    """

    def __init__(self, subject: object) -> None:
        self.subject = subject
        self._values = Values()
        self._fresh = self._pack(0)
        self._values.sealed = True

    def state(self, count: int) -> State:
        """A copy of every attribute.

        Args:
            count: a number to keep beside them, >= 0.

        Raises:
            PluginError: an attribute has become one that cannot be kept (code `strategy.flower-state`).
        """
        return self._pack(count)

    def restore(self, state: Mapping[str, npt.NDArray[Any]]) -> int:
        """Go back to a saved state, or, with an empty one, to how the object was made. Returns the count.

        Raises:
            PluginError: the state is not one that `state` of such an object returned (code `strategy.state`).
        """
        tree, leaves = self._opened(state or self._fresh)
        attributes = {name: self._values.decoded(node, leaves) for name, node in tree["attributes"].items()}
        vars(self.subject).clear()
        vars(self.subject).update(attributes)
        return int(tree["count"])

    def _pack(self, count: int) -> State:
        leaves: list[npt.NDArray[Any]] = []
        attributes = {}
        for name, value in vars(self.subject).items():
            try:
                attributes[name] = self._values.encoded(value, leaves)
            except Unkeepable as found:
                raise PluginError(
                    f"strategy flower:{type(self.subject).__name__} keeps a {type(found.value).__name__} in its "
                    f"attribute {name}, which a snapshot cannot store",
                    code="strategy.flower-state",
                    allowed=ALLOWED,
                    remedy=f"keep {name} as such, so that a run that is killed can go on; what never changes may be an "
                    "attribute of the class instead",
                ) from None
        tree = {"class": _class_of(self.subject), "count": count, "given": self._values.titles()}
        text = np.frombuffer(json.dumps(tree | {"attributes": attributes}).encode(), dtype=np.uint8).copy()
        return {"tree": text} | {f"leaf{place}": leaf for place, leaf in enumerate(leaves)}

    def _opened(self, state: Mapping[str, npt.NDArray[Any]]) -> tuple[dict[str, Any], list[npt.NDArray[Any]]]:
        """The tree and the leaves of a saved state."""
        own, given = _class_of(self.subject), self._values.titles()
        allowed = f"a state of {own}, or none"
        found = "with the arrays " + ", ".join(sorted(state))
        if set(state) == {"tree"} | {f"leaf{place}" for place in range(len(state) - 1)}:
            try:
                tree = json.loads(state["tree"].tobytes())
            except (UnicodeDecodeError, json.JSONDecodeError):
                tree = None
            if not isinstance(tree, dict):
                found = "that is damaged"
            elif tree.get("class") != own:
                found = f"of {tree.get('class')}"
            elif tree.get("given") != given:
                found = f"of {own} made with {_listed(tree.get('given'))}"
                allowed = f"a state of {own} made with {_listed(given)}, or none"
            else:
                return tree, [state[f"leaf{place}"] for place in range(len(state) - 1)]
        raise PluginError(
            f"strategy flower:{type(self.subject).__name__} cannot go on from a saved state {found}",
            code="strategy.state",
            allowed=allowed,
            remedy="resume with the strategy that the run was started with, or start a fresh run",
        )


def _class_of(subject: object) -> str:
    """Not the module: that of a plug-in file depends on its path."""
    return type(subject).__qualname__


def _listed(given: list[str] | None) -> str:
    return ", ".join(given or ["no functions"])
