"""What a Flower strategy keeps: changed in place or replaced, it is in the snapshot, or the strategy is refused."""

import functools
import itertools
import logging
import random
import threading
from collections import Counter, OrderedDict, defaultdict, deque, namedtuple
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

import numpy as np
import pytest
import torch
from flwr.app import Array, ArrayRecord, ConfigRecord, MetricRecord
from flwr.serverapp.strategy import FedAvg

from fedpeft.errors import PluginError
from fedpeft.flower.stock import Stock
from fedpeft.flower.stock_state import Memory
from fedpeft.types import ClientId, Update


class Subject:
    """Keeps one thing, as its constructor makes it."""

    def __init__(self, make):
        self.kept = make()


def learnt(make, learn):
    """Two subjects, of which the first has learnt something and the second goes on from its state."""
    first, second = Subject(make), Subject(make)
    memory, resumed = Memory(first), Memory(second)
    learn(first.kept)
    resumed.restore({name: array.copy() for name, array in memory.state(3).items()})
    return first.kept, second.kept


IN_PLACE = {
    "list": (list, lambda kept: kept.extend([1, (2.5, None), "three", np.float32(4), True])),
    "dict": (dict, lambda kept: kept.update({("a", 1): [np.arange(3)], 2: np.bool_(True)})),
    "deque": (lambda: deque(maxlen=2), lambda kept: kept.extend("abc")),
    "endless deque": (deque, lambda kept: kept.append(np.int64(7))),
    "set": (lambda: {"x"}, lambda kept: kept.update({1, "y", 2.5})),
    "frozenset": (list, lambda kept: kept.append(frozenset({1, 2}))),
    "OrderedDict": (OrderedDict, lambda kept: kept.update(b=1, a=2)),
    "Counter": (Counter, lambda kept: kept.update("abba")),
    "array": (lambda: np.zeros(3), lambda kept: np.copyto(kept, [1.0, 2.0, np.nan])),
    "flags": (lambda: np.zeros((2, 2), bool), lambda kept: kept.fill(True)),
    "bytes": (list, lambda kept: kept.append(b"\x00\xff")),
    "tensors in a dict": (dict, lambda kept: kept.update(m=torch.arange(4.0).reshape(2, 2), n=torch.tensor(True))),
    "records in a list": (list, lambda kept: kept.append(MetricRecord({"loss": 0.5, "all": [1, 2]}))),
    "arrays of Flower": (dict, lambda kept: kept.update(last=ArrayRecord({"a": Array(np.ones(2, np.float16))}))),
    "an array of Flower": (list, lambda kept: kept.append(Array(np.ones(2, np.int32)))),
    "ConfigRecord": (lambda: ConfigRecord({"on": True}), lambda kept: kept.update({"key": b"b", "names": ["a"]})),
}


@pytest.mark.parametrize("kind", IN_PLACE)
def test_what_is_changed_in_place_is_kept(kind):
    first, second = learnt(*IN_PLACE[kind])
    assert type(first) is type(second)
    assert first is not second
    if isinstance(first, set):  # has no order: how it is written differs from process to process
        assert first == second
    else:
        assert repr(first) == repr(second)
    if isinstance(first, deque):
        first.append("more")
        second.append("more")
        assert first == second


@pytest.mark.parametrize("bits", ["PCG64", "PCG64DXSM", "MT19937", "Philox", "SFC64"])
def test_a_generator_goes_on_with_the_same_draws(bits):
    def learn(generator):
        generator.integers(9, size=3, dtype=np.int32)
        generator.spawn(2)

    first, second = learnt(lambda: np.random.Generator(getattr(np.random, bits)([5, 6])), learn)
    np.testing.assert_array_equal(first.normal(size=5), second.normal(size=5))
    np.testing.assert_array_equal(first.spawn(1)[0].random(5), second.spawn(1)[0].random(5))


def test_python_s_generator_goes_on_with_the_same_draws():
    first, second = learnt(lambda: random.Random(3), lambda kept: kept.gauss(0, 1))
    assert [first.gauss(0, 1) for _ in range(4)] == [second.gauss(0, 1) for _ in range(4)]


class History(FedAvg):
    """The mean of the last three models, and noise; momentum in torch."""

    def __init__(self):
        super().__init__()
        self.history, self.buffers, self.noise = deque(maxlen=3), {}, np.random.default_rng(0)

    def aggregate_train(self, server_round, replies):
        arrays, metrics = super().aggregate_train(server_round, replies)
        model = torch.from_numpy(arrays["adapter"].numpy().copy())
        self.history.append(arrays["adapter"].numpy())
        self.buffers["m"] = 0.9 * self.buffers.get("m", torch.zeros_like(model)) + model
        noise = self.noise.normal(size=model.shape).astype(np.float32)
        model = np.mean(self.history, axis=0) + self.buffers["m"].numpy() + noise
        return ArrayRecord({"adapter": Array(model)}), metrics


def play(rule, theta, number):
    rule.begin(theta)
    for k in range(3):
        rule.accept(Update(ClientId(f"c{k}"), number, np.full(4, 0.1 * number * k, np.float32), 1.0, {}), 1.0)
    return rule.finish()


def test_a_rule_of_one_s_own_resumes_bit_by_bit():
    whole, resumed = Stock(History()), Stock(History())
    theta = play(whole, np.zeros(4, np.float32), 1)
    resumed.restore(whole.state())
    assert play(whole, theta, 2).tobytes() == play(resumed, theta, 2).tobytes()
    whole.restore({})
    assert play(whole, np.zeros(4, np.float32), 1).tobytes() == theta.tobytes()


class Tracker:
    def __init__(self):
        self.best = 0.0


@dataclass
class Settings:
    beta: float = 0.5


@dataclass(frozen=True)
class Frozen:
    beta: float = 0.5


Pair = namedtuple("Pair", "left right")


class Mode(Enum):
    FAST = 1


MUTABLE = {
    "Tracker": Tracker,
    "Settings": Settings,
    "defaultdict": lambda: defaultdict(list),
    "Linear": lambda: torch.nn.Linear(1, 1),
    "Tensor": lambda: torch.ones(1, dtype=torch.bfloat16),
    "count": itertools.count,
    "lock": threading.Lock,
    "Pair": lambda: Pair(np.zeros(1), 2),
    "bytearray": lambda: bytearray(b"a"),
    "MaskedArray": lambda: np.ma.masked_array([1.0], [True]),
    "RandomState": lambda: np.random.RandomState(1),
}


@pytest.mark.parametrize("kind", MUTABLE)
@pytest.mark.parametrize("wrap", [lambda value: value, lambda value: {"inside": [value]}], ids=["bare", "inside"])
def test_a_constructor_that_makes_what_cannot_be_kept_is_refused_before_the_run(kind, wrap):
    class Mine(FedAvg):
        def __init__(self):
            super().__init__()
            self.own = wrap(MUTABLE[kind]())

    with pytest.raises(PluginError, match=f"strategy flower:Mine keeps a {kind} in its attribute own") as error:
        Stock(Mine())
    assert error.value.code == "strategy.flower-state"
    assert "keep own as such" in error.value.remedy


GIVEN = {
    "function": lambda: np.mean,
    "lambda": lambda: lambda x: x,
    "ufunc": lambda: np.add,
    "class": lambda: Tracker,
    "module": lambda: np,
    "logger": lambda: logging.getLogger("a"),
    "partial": lambda: functools.partial(round, ndigits=2),
    "path": lambda: Path("a"),
    "member": lambda: Mode.FAST,
    "frozen": Frozen,
    "pair": lambda: Pair(1, "b"),
    "functions": lambda: {"mean": np.mean, "others": [np.median, Tracker]},
}


@pytest.mark.parametrize("kind", GIVEN)
def test_what_the_constructor_gives_again_stays_its_own(kind):
    subject = Subject(GIVEN[kind])
    memory, before = Memory(subject), subject.kept
    memory.restore(memory.state(1))
    assert subject.kept == before
    if not isinstance(before, dict):
        assert subject.kept is before


def test_a_function_may_move_but_not_be_replaced():
    subject = Subject(lambda: {"rules": [np.mean, np.median], "now": np.mean})
    memory = Memory(subject)
    subject.kept["now"] = np.median
    resumed = Subject(lambda: {"rules": [np.mean, np.median], "now": np.mean})
    Memory(resumed).restore(memory.state(1))
    assert resumed.kept["now"] is np.median
    subject.kept["now"] = lambda x: x
    with pytest.raises(PluginError, match="keeps a function in its attribute kept"):
        memory.state(2)


def test_what_comes_to_hold_what_cannot_be_kept_is_refused_by_name():
    subject = Subject(list)
    memory = Memory(subject)
    subject.kept.append(Tracker())
    with pytest.raises(PluginError, match="keeps a Tracker in its attribute kept, which a snapshot cannot") as error:
        memory.state(1)
    assert error.value.code == "strategy.flower-state"


def test_a_state_made_with_other_functions_is_refused():
    state = Memory(Subject(lambda: np.mean)).state(1)
    with pytest.raises(PluginError, match="a saved state of Subject made with mean") as error:
        Memory(Subject(lambda: np.median)).restore(state)
    assert error.value.allowed == "a state of Subject made with median, or none"
    with pytest.raises(PluginError, match="made with mean"):
        Memory(Subject(list)).restore(state)
