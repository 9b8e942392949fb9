"""What a Flower strategy may keep from round to round, as JSON and arrays, and back. No pickles: reading runs no code.

A value is [kind, content]. Arrays are copied, in their own dtypes, to a list of leaves, and `content` is a place in it:

    plain                                                     a number, a text, a truth value or None
    array, scalar, flags, bytes                               a leaf; flags are truth values
    tensor, Array                                             the value of a torch tensor's or of a Flower Array's array
    list, tuple, set, frozenset                               values
    deque                                                     its greatest length, values
    dict, OrderedDict, Counter, MetricRecord, ConfigRecord    pairs of values
    record                                                    an ArrayRecord: pairs of a name and a value
    generator, random                                         NumPy's Generator, Python's Random: their states
    given                                                     a place among what the constructor gives again

What is given again are functions, classes, modules, loggers and values that cannot change: a saved state only refers to
them. Out of sight: what a function remembers by itself, that two values were one object, and the order of a set.
"""

from __future__ import annotations

import inspect
import logging
import random
from collections import Counter, OrderedDict, deque
from dataclasses import fields, is_dataclass
from datetime import date
from enum import Enum
from functools import partial
from pathlib import PurePath
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt
from flwr.app import Array, ArrayRecord, ConfigRecord, MetricRecord

Leaves = list[npt.NDArray[Any]]

ALLOWED = (
    "numbers, texts, arrays of NumPy and Flower, torch tensors on the CPU without gradients, random generators, "
    "records of Flower, and lists, tuples, deques, sets and dictionaries of these; functions, classes, modules, "
    "loggers and frozen dataclasses as the constructor made them"
)

_PLAIN = (bool, int, float, str, type(None))
_SEQUENCES: dict[str, Any] = {kind.__name__: kind for kind in (list, tuple, set, frozenset)}
_MAPPINGS: dict[str, Any] = {kind.__name__: kind for kind in (dict, OrderedDict, Counter, MetricRecord, ConfigRecord)}
_LEAVES: dict[str, Any] = {
    "array": np.array,  # a copy
    "scalar": lambda leaf: leaf[()],
    "flags": lambda leaf: leaf.astype(bool)[()],
    "bytes": lambda leaf: leaf.tobytes(),
}
_BITS = ("PCG64", "PCG64DXSM", "MT19937", "Philox", "SFC64")  # NumPy's bit generators
_FIXED = (
    *_PLAIN,
    *(type, ModuleType, logging.Logger, logging.LoggerAdapter, partial, np.ufunc, np.dtype, np.generic),
    *(bytes, complex, range, date, Enum, PurePath),
)


class Unkeepable(Exception):
    """A value that no snapshot can store; `value` may lie inside the one that was to be encoded."""

    def __init__(self, value: object) -> None:
        super().__init__(type(value).__name__)
        self.value = value


class Values:
    """Encodes and decodes what one object keeps.

    Attributes:
        given: what its constructor gives again, in the order in which it was met; nothing is added once it is `sealed`.
    """

    def __init__(self) -> None:
        self.given: list[Any] = []
        self.sealed = False

    def titles(self) -> list[str]:
        """A name for each of `given`."""
        return [getattr(value, "__qualname__", type(value).__qualname__) for value in self.given]

    def encoded(self, value: Any, leaves: Leaves) -> list[Any]:
        """A value as [kind, content], its arrays copied to `leaves`.

        Raises:
            Unkeepable: it cannot be stored.
        """
        if type(value) in _PLAIN:
            return ["plain", value]
        if type(value) is np.ndarray or isinstance(value, np.generic):
            return self._array(value, leaves)
        if isinstance(value, ArrayRecord):
            return ["record", [[key, self.encoded(_numpy(array), leaves)] for key, array in value.items()]]
        if type(value) is random.Random:
            return ["random", self.encoded(value.getstate(), leaves)]
        if type(value) is np.random.Generator:
            return ["generator", self.encoded(_state(value), leaves)]
        name = type(value).__name__
        if type(value) is _SEQUENCES.get(name):
            items = sorted(value, key=repr) if isinstance(value, set | frozenset) else value
            return [name, [self.encoded(item, leaves) for item in items]]
        if type(value) is deque:
            return ["deque", [value.maxlen, [self.encoded(item, leaves) for item in value]]]
        if type(value) is _MAPPINGS.get(name):
            return [name, [[self.encoded(key, leaves), self.encoded(item, leaves)] for key, item in value.items()]]
        if (type(value).__module__, name) == ("torch", "Tensor"):  # not imported: a coordinator does without torch
            return ["tensor", self.encoded(_numpy(value), leaves)]
        if isinstance(value, Array):
            return ["Array", self.encoded(_numpy(value), leaves)]
        if type(value) is bytes:
            return ["bytes", _leaf(np.frombuffer(value, dtype=np.uint8), leaves)]
        return ["given", self._place(value)]

    def decoded(self, node: list[Any], leaves: Leaves) -> Any:
        """The value that was encoded; it shares no memory with `leaves`."""
        kind, content = node
        if kind == "plain":
            return content
        if kind == "given":
            return self.given[content]
        if kind in _LEAVES:
            return _LEAVES[kind](leaves[content])
        if kind == "record":
            return ArrayRecord({key: Array(self.decoded(item, leaves)) for key, item in content})
        if kind == "Array":
            return Array(self.decoded(content, leaves))
        if kind == "tensor":
            import torch

            return torch.from_numpy(np.asarray(self.decoded(content, leaves)))
        if kind == "random":
            python = random.Random()
            python.setstate(self.decoded(content, leaves))
            return python
        if kind == "generator":
            return _generator(*self.decoded(content, leaves))
        if kind == "deque":
            longest, content = content
            return deque([self.decoded(item, leaves) for item in content], longest)
        if kind in _MAPPINGS:
            return _MAPPINGS[kind]({self.decoded(key, leaves): self.decoded(item, leaves) for key, item in content})
        return _SEQUENCES[kind]([self.decoded(item, leaves) for item in content])

    def _array(self, value: npt.NDArray[Any] | np.generic, leaves: Leaves) -> list[Any]:
        if value.dtype.kind == "b":
            return ["flags", _leaf(value.astype(np.uint8), leaves)]
        if value.dtype.kind in "fiu":
            return ["scalar" if isinstance(value, np.generic) else "array", _leaf(value, leaves)]
        return ["given", self._place(value)]

    def _place(self, value: Any) -> int:
        for place, known in enumerate(self.given):
            if known is value:
                return place
        if self.sealed or not _fixed(value):
            raise Unkeepable(value)
        self.given.append(value)
        return len(self.given) - 1


def _fixed(value: Any) -> bool:
    """Whether nothing can be learnt in a value: a constructor gives it again as it was."""
    if isinstance(value, tuple | frozenset):
        return all(map(_fixed, value))
    if is_dataclass(value) and not isinstance(value, type):
        parameters: Any = getattr(value, "__dataclass_params__")  # noqa: B009 (mypy knows no such attribute)
        return bool(parameters.frozen) and all(_fixed(getattr(value, field.name)) for field in fields(value))
    return inspect.isroutine(value) or isinstance(value, _FIXED)


def _leaf(array: npt.NDArray[Any] | np.generic, leaves: Leaves) -> int:
    leaves.append(np.array(array))
    return len(leaves) - 1


def _numpy(array: Any) -> Any:
    """An array of Flower or a tensor of torch, as NumPy's."""
    try:
        return array.numpy()
    except (TypeError, RuntimeError):  # bfloat16, a GPU's, one that has a gradient, serialised otherwise
        raise Unkeepable(array) from None


def _state(generator: np.random.Generator) -> list[Any]:
    """The state that it draws from, and that from which it spawns others."""
    bits, seeds = generator.bit_generator, generator.bit_generator.seed_seq
    if type(bits).__name__ not in _BITS or not isinstance(seeds, np.random.SeedSequence):
        raise Unkeepable(generator)
    return [bits.state, seeds.state]


def _generator(state: dict[str, Any], seeds: dict[str, Any]) -> np.random.Generator:
    if state["bit_generator"] not in _BITS:
        raise ValueError(f'a saved generator of kind "{state["bit_generator"]}": known are {", ".join(_BITS)}')
    bits = getattr(np.random, state["bit_generator"])(np.random.SeedSequence(**seeds))
    bits.state = state
    return np.random.Generator(bits)
