"""The optimizer state of a Flower strategy, as arrays that a snapshot stores.

Flower's strategies have no `state_dict`. What they learn lies in their attributes: moments as dictionaries of arrays,
a momentum vector as a list of them, the last model as an `ArrayRecord`. `Memory` keeps every attribute that is made of
numbers, texts, arrays and containers of these; the rest (functions, loggers) a constructor gives again, and must not
have been replaced since.

A saved state is `leaf0`, `leaf1`, ...: the arrays, in their own dtypes; and `tree`: JSON in UTF-8, uint8, which says
where they belong.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from flwr.app import Array, ArrayRecord

from fedpeft.errors import PluginError
from fedpeft.strategies.base import State

_PLAIN = (bool, int, float, str, type(None))


class Unkeepable(Exception):
    """A value that is not made of numbers, texts, arrays and containers of these."""


class Memory:
    """What an object has learnt since it was made.

    Args:
        subject: a Flower strategy, as its constructor left it.
    """

    def __init__(self, subject: object) -> None:
        self.subject = subject
        self._made = dict(vars(subject))
        self._fresh = self._pack(0)

    def state(self, count: int) -> State:
        """A copy of every attribute.

        Args:
            count: a number to keep beside them, >= 0.

        Raises:
            PluginError: an attribute that cannot be kept was replaced since the object was made.
        """
        return self._pack(count)

    def restore(self, state: Mapping[str, npt.NDArray[Any]]) -> int:
        """Go back to a saved state, or, with an empty one, to how the object was made. Returns the count.

        Raises:
            PluginError: the state is not one that `state` of such an object returned (code `strategy.state`).
        """
        tree, leaves = self._opened(state or self._fresh)
        values = vars(self.subject)
        values.clear()
        values.update(self._made)
        values.update({name: _decoded(node, leaves) for name, node in tree["attributes"].items()})
        return int(tree["count"])

    def _pack(self, count: int) -> State:
        leaves: list[npt.NDArray[Any]] = []
        attributes = {}
        for name, value in vars(self.subject).items():
            try:
                attributes[name] = _encoded(value, leaves)
            except Unkeepable:
                if name not in self._made or value is not self._made[name]:
                    raise PluginError(
                        f"strategy flower:{type(self.subject).__name__} keeps a {type(value).__name__} in its "
                        f"attribute {name}, which a snapshot cannot store",
                        code="strategy.flower-state",
                        allowed="numbers, texts, NumPy arrays, ArrayRecords, and lists and dictionaries of these",
                        remedy=f"keep {name} as such, so that a run that is killed can go on",
                    ) from None
        tree = {"class": _class_of(self.subject), "count": count, "attributes": attributes}
        text = np.frombuffer(json.dumps(tree).encode(), dtype=np.uint8).copy()
        return {"tree": text} | {f"leaf{place}": leaf for place, leaf in enumerate(leaves)}

    def _opened(self, state: Mapping[str, npt.NDArray[Any]]) -> tuple[dict[str, Any], list[npt.NDArray[Any]]]:
        """The tree and the leaves of a saved state."""
        own = _class_of(self.subject)
        found = "with the arrays " + ", ".join(sorted(state))
        if set(state) == {"tree"} | {f"leaf{place}" for place in range(len(state) - 1)}:
            try:
                tree = json.loads(state["tree"].tobytes())
            except (UnicodeDecodeError, json.JSONDecodeError):
                tree = None
            if isinstance(tree, dict) and tree.get("class") == own:
                return tree, [state[f"leaf{place}"] for place in range(len(state) - 1)]
            found = f"of {tree.get('class')}" if isinstance(tree, dict) else "that is damaged"
        raise PluginError(
            f"strategy flower:{type(self.subject).__name__} cannot go on from a saved state {found}",
            code="strategy.state",
            allowed=f"a state of {own}, or none",
            remedy="resume with the strategy that the run was started with, or start a fresh run",
        )


def _class_of(subject: object) -> str:
    """Not the module: that of a plug-in file depends on its path."""
    return type(subject).__qualname__


def _encoded(value: Any, leaves: list[npt.NDArray[Any]]) -> list[Any]:
    """A value as [kind, content], its arrays copied to `leaves`."""
    if type(value) in _PLAIN:
        return ["plain", value]
    if isinstance(value, np.ndarray | np.generic) and value.dtype.kind in "fiu":
        leaves.append(np.array(value))
        return ["scalar" if isinstance(value, np.generic) else "array", len(leaves) - 1]
    if type(value) in (list, tuple):
        return [type(value).__name__, [_encoded(item, leaves) for item in value]]
    if isinstance(value, ArrayRecord):
        return ["record", [[key, _encoded(_numpy(array), leaves)] for key, array in value.items()]]
    if type(value) is dict:
        return ["dict", [[_encoded(key, leaves), _encoded(item, leaves)] for key, item in value.items()]]
    raise Unkeepable


def _decoded(node: list[Any], leaves: list[npt.NDArray[Any]]) -> Any:
    kind, content = node
    if kind == "plain":
        return content
    if kind == "array":
        return np.array(leaves[content])
    if kind == "scalar":
        return leaves[content][()]
    if kind == "record":
        return ArrayRecord({key: Array(_decoded(item, leaves)) for key, item in content})
    if kind == "dict":
        return {_decoded(key, leaves): _decoded(item, leaves) for key, item in content}
    items = [_decoded(item, leaves) for item in content]
    return tuple(items) if kind == "tuple" else items


def _numpy(array: Array) -> npt.NDArray[Any]:
    try:
        return array.numpy()
    except TypeError:
        raise Unkeepable from None
