"""The toy on which strategies are tried: eight coordinates, and clients whose deltas are about 1."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from fedpeft.strategies import Strategy
from fedpeft.types import ClientId, ClientInfo, FloatArray, NodeId, Update

D = 8
THETA: FloatArray = np.linspace(-1, 1, D).astype(np.float32)

LOSSES = {"loss_first": 0.7, "loss_last": 0.6}
"""What a client tells of its training."""


class Subject(ABC):
    """Whose contract is tested; see `StrategyContract` for the attributes."""

    rounds: int = 40
    settles: bool = True
    keeps_replies: bool = False
    copies: int = 0
    uniform: bool = True

    @abstractmethod
    def build(self) -> Strategy:
        """A new strategy, with the same parameters each time."""


def info(index: int, examples: int = 5) -> ClientInfo:
    """A client as it introduced itself."""
    return ClientInfo(ClientId(f"c{index:02d}"), NodeId(index), examples)


def reply(client: str, number: int, delta: npt.NDArray[Any], weight: float) -> Update:
    """What the guard is given of a client in a round."""
    return Update(ClientId(client), number, delta, weight, LOSSES)


def honest(index: int, number: int = 1) -> Update:
    """A delta near 1 that differs from client to client and from round to round."""
    noise = np.random.default_rng([index, number]).normal(0, 0.1, D)
    return reply(f"c{index:02d}", number, (1 + noise).astype(np.float32), weight=1 + index % 5)


def play(strategy: Strategy, theta: FloatArray, updates: Iterable[Update]) -> FloatArray:
    """One round as the coordinator plays it, after the guard. Returns the new θ."""
    strategy.begin(theta)
    for update in updates:
        strategy.accept(update, update.weight)
    return strategy.finish()


def play_rounds(strategy: Strategy, theta: FloatArray, numbers: Iterable[int]) -> FloatArray:
    """Rounds of five honest clients."""
    for number in numbers:
        theta = play(strategy, theta, [honest(index, number) for index in range(5)])
    return theta


def ask_and_play(
    strategy: Strategy, theta: FloatArray, number: int, short: Sequence[Sequence[ClientId]] = ()
) -> tuple[list[ClientId], FloatArray]:
    """A round of three honest clients whom the strategy chooses among seven. Returns them, and the new θ.

    Args:
        strategy: not in a round.
        theta: shape (D,), fp32.
        number: of the round; the cohort's seed, too.
        short: the cohorts of attempts at this round that came short.
    """
    strategy.came_short(short)
    strategy.begin(theta)
    cohort = strategy.select([info(index) for index in range(7)], 3, seed=100 * number + len(short))
    for client in cohort:
        update = honest(int(client[1:]), number)
        strategy.accept(update, update.weight)
    return cohort, strategy.finish()


def assert_same_bits(left: FloatArray, right: FloatArray) -> None:
    """Both are fp32 and equal, -0 and 0 told apart."""
    assert left.dtype == right.dtype == np.float32, f"dtypes {left.dtype} and {right.dtype}, not float32"
    assert left.shape == right.shape, f"shapes {left.shape} and {right.shape}"
    assert left.tobytes() == right.tobytes(), f"not the same bits: {left} and {right}"


def assert_same_state(left: Mapping[str, npt.NDArray[Any]], right: Mapping[str, npt.NDArray[Any]]) -> None:
    """Two saved states hold the same."""
    assert left.keys() == right.keys(), f"states with {sorted(left)} and {sorted(right)}"
    for name, array in left.items():
        np.testing.assert_array_equal(array, right[name], err_msg=name)


def error_of(kind: type[Exception], call: Callable[[], object]) -> Exception:
    """The error that a call raises."""
    try:
        call()
    except kind as error:
        return error
    raise AssertionError(f"no {kind.__name__} was raised")
