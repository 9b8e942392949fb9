"""Resuming: a run that is interrupted anywhere ends in the adapter that it would have reached."""

from __future__ import annotations

import numpy as np

from fedpeft.contracts.strategies.toy import (
    THETA,
    D,
    Subject,
    ask_and_play,
    assert_same_bits,
    assert_same_state,
    error_of,
    honest,
    info,
    play,
    play_rounds,
)
from fedpeft.errors import PluginError


class Resuming(Subject):
    """What outlives a round is what `state` returns, and nothing else."""

    def test_an_interruption_leaves_no_trace(self) -> None:
        """Three rounds, a restart and three more end as six rounds do."""
        strategy = self.build()
        middle = play_rounds(strategy, THETA, range(1, 4))
        saved = strategy.state()
        uninterrupted = play_rounds(strategy, middle, range(4, 7))
        resumed = self.build()
        resumed.restore(saved)
        assert_same_bits(uninterrupted, play_rounds(resumed, middle, range(4, 7)))
        assert_same_state(strategy.state(), resumed.state())

    def test_the_cohorts_after_an_interruption_are_the_same(self) -> None:
        """Whom `select` draws depends on the seed and on the saved state only."""
        strategy, resumed, theta = self.build(), self.build(), THETA
        for number in range(1, 4):
            _, theta = ask_and_play(strategy, theta, number)
        resumed.restore(strategy.state())
        for number in range(4, 10):
            cohort, after = ask_and_play(strategy, theta, number)
            assert cohort == ask_and_play(resumed, theta, number)[0], f"round {number}"
            theta = after

    def test_a_run_that_was_killed_after_a_short_attempt_goes_on_as_if_it_was_not(self) -> None:
        """Of an attempt without `finish` only `came_short` tells: what `select` and `accept` noted is forgotten."""
        strategy, resumed, theta = self.build(), self.build(), THETA
        for number in range(1, 3):
            _, theta = ask_and_play(strategy, theta, number)
        resumed.restore(strategy.state())
        strategy.came_short([])
        strategy.begin(theta)
        short = strategy.select([info(index) for index in range(7)], 3, seed=300)
        strategy.accept(honest(int(short[0][1:]), 3), 1.0)
        cohorts, ends = [], []
        for one in (strategy, resumed):
            asked, after = ask_and_play(one, theta, 3, [short])
            cohorts.append([asked])
            for number in range(4, 7):
                asked, after = ask_and_play(one, after, number)
                cohorts[-1].append(asked)
            ends.append(after)
        assert cohorts[0] == cohorts[1], f"cohorts {cohorts[0]}, and after a restart {cohorts[1]}"
        assert_same_bits(*ends)
        assert_same_state(strategy.state(), resumed.state())

    def test_restoring_nothing_is_starting_anew(self) -> None:
        """An empty state makes a used strategy as good as new."""
        strategy = self.build()
        play_rounds(strategy, THETA, range(1, 4))
        strategy.restore({})
        assert_same_bits(play_rounds(strategy, THETA, range(1, 4)), play_rounds(self.build(), THETA, range(1, 4)))

    def test_a_saved_state_is_a_copy(self) -> None:
        """Nobody's later writing reaches it, nor does it reach anybody."""
        strategy = self.build()
        _, theta = ask_and_play(strategy, THETA, 1)
        theta = play_rounds(strategy, theta, [2])
        saved = strategy.state()
        kept = {name: array.copy() for name, array in saved.items()}
        resumed = self.build()
        resumed.restore(saved)
        for array in saved.values():
            array[...] = 0
        uninterrupted, fresh = play_rounds(strategy, theta, [3]), self.build()
        assert_same_bits(uninterrupted, play_rounds(resumed, theta, [3]))
        fresh.restore(kept)
        assert_same_bits(uninterrupted, play_rounds(fresh, theta, [3]))
        assert_same_state(strategy.state(), resumed.state())

    def test_a_saved_state_holds_plain_numbers(self) -> None:
        """Integers and floats by name: a snapshot stores nothing else."""
        strategy = self.build()
        ask_and_play(strategy, THETA, 1)
        for name, array in strategy.state().items():
            assert isinstance(name, str), f"a key of the state is a {type(name).__name__}"
            assert array.dtype.kind in "fiu", f'state["{name}"] is of dtype {array.dtype}'

    def test_a_foreign_state_is_refused(self) -> None:
        """Going on from another rule's state would end nowhere in particular."""
        foreign = {"momentum of another rule": np.zeros(D, dtype=np.float32)}
        error = error_of(PluginError, lambda: self.build().restore(foreign))
        assert isinstance(error, PluginError)
        assert error.code == "strategy.state", error.code
        assert "cannot go on" in error.message, error.message

    def test_a_round_without_updates_leaves_theta_and_state_unchanged(self) -> None:
        """No reply, no change."""
        strategy = self.build()
        theta = play_rounds(strategy, THETA, [1, 2])
        before = strategy.state()
        assert_same_bits(play(strategy, theta, []), theta)
        assert_same_state(before, strategy.state())

    def test_an_attempt_that_was_given_up_leaves_no_trace(self) -> None:
        """Too few replied: the coordinator begins the round again."""
        strategy = self.build()
        strategy.begin(THETA)
        strategy.accept(honest(9), 5)
        updates = [honest(index) for index in range(3)]
        assert_same_bits(play(strategy, THETA, updates), play(self.build(), THETA, updates))
