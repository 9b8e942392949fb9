"""One bad client of ten: it costs itself its place, and no one else a bit."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt

from fedpeft.aggregation import UpdateGuard
from fedpeft.contracts.strategies.toy import THETA, D, Subject, assert_same_bits, honest, info, play, reply
from fedpeft.errors import ClientFault
from fedpeft.strategies import Strategy
from fedpeft.types import FloatArray, Update

BAD = "c09"
ONES: FloatArray = np.ones(D, dtype=np.float32)
BAD_UPDATES: dict[str, tuple[npt.NDArray[Any], float, str]] = {  # what it is: delta, weight, the guard's code
    "all NaN": (ONES * np.nan, 5, "guard.not-finite"),
    "all +inf": (ONES * np.inf, 5, "guard.not-finite"),
    "1e30": (ONES * np.float32(1e30), 5, "guard.norm"),
    "claims 1e15 examples": (ONES * np.float32(5), 1e15, "guard.weight"),
    "claims -89 examples": (ONES, -89, "guard.weight"),
    "claims NaN examples": (ONES, float("nan"), "guard.weight"),
    "claims no examples": (ONES, 0, "guard.weight"),
    "one element": (ONES[:1], 5, "guard.shape"),
    "one element more": (np.ones(D + 1, dtype=np.float32), 5, "guard.shape"),
    "float64": (ONES.astype(np.float64), 5, "guard.shape"),
    "two dimensions": (ONES.reshape(1, D), 5, "guard.shape"),
}
LAX = [
    (ONES * np.float32(1e25), 5.0),
    (ONES, 1e200),
    (ONES, 1e-300),
    (ONES * np.float32(1e-45), 5.0),
]
"""Deltas and weights that only limits far above the defaults let pass."""


def guarded_round(
    strategy: Strategy, theta: FloatArray, updates: Iterable[Update], max_norm: float = 100.0, examples: int = 5
) -> tuple[FloatArray, list[ClientFault]]:
    """One round as the coordinator plays it, guard included. Returns the new θ and the faults."""
    guard, faults = UpdateGuard(D, max_norm=max_norm, max_examples=1e300), []
    strategy.begin(theta)
    for update in updates:
        try:
            strategy.accept(update, guard.check(update, info(int(update.client[1:]), examples)).weight)
        except ClientFault as fault:
            faults.append(fault)
    return strategy.finish(), faults


class BadClients(Subject):
    """What breaks the limits is refused at the guard; what a lax guard lets pass never ends the round."""

    def test_one_bad_client_of_ten_costs_only_itself(self) -> None:
        """Whatever it sends, and whether it answers first, in between or last."""
        updates = [honest(index) for index in range(9)]
        expected, none = guarded_round(self.build(), THETA, updates)
        assert none == []
        for case, (delta, weight, code) in BAD_UPDATES.items():
            for position in (0, 4, 9):
                bad = reply(BAD, 1, delta, weight)
                theta, faults = guarded_round(self.build(), THETA, [*updates[:position], bad, *updates[position:]])
                assert_same_bits(theta, expected)
                assert [fault.code for fault in faults] == [code], case
                assert f"client {BAD}" in faults[0].message, faults[0].message

    def test_what_a_lax_guard_lets_pass_never_ends_the_round(self) -> None:
        """Folded in, or refused by name by the strategy itself, as if it had sent nothing; either way θ is finite."""
        updates = [honest(index) for index in range(9)]
        for delta, weight in LAX:
            extra = reply(BAD, 1, delta, weight)
            theta, faults = guarded_round(self.build(), THETA, [*updates, extra], max_norm=1e300, examples=10**300)
            assert np.isfinite(theta).all(), (delta[0], weight)
            if faults:
                assert_same_bits(theta, play(self.build(), THETA, updates))
                assert f"client {BAD}" in faults[0].message, faults[0].message

    def test_a_bad_client_in_round_two_of_three_leaves_no_trace(self) -> None:
        """Nor is there one in the rounds that follow."""
        for case, (delta, weight, _) in BAD_UPDATES.items():
            results = []
            for extra in ([], [reply(BAD, 2, delta, weight)]):
                strategy, theta = self.build(), THETA
                for number in (1, 2, 3):
                    updates = [honest(index, number) for index in range(9)]
                    theta, faults = guarded_round(strategy, theta, [*(extra if number == 2 else []), *updates])
                    assert len(faults) == (len(extra) if number == 2 else 0), case
                results.append(theta)
            assert_same_bits(*results)
