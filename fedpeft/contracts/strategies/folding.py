"""Folding: what becomes of θ, from which replies, in which order, and in how much memory."""

from __future__ import annotations

import tracemalloc
from dataclasses import replace

import numpy as np

from fedpeft.codecs.int8 import Int8
from fedpeft.contracts.strategies.toy import THETA, D, Subject, assert_same_bits, honest, play, reply
from fedpeft.types import Held, Update


class Folding(Subject):
    """A round moves θ as its replies say, and their order says nothing."""

    def test_three_quadratic_clients_converge_to_their_mean(self) -> None:
        """F_k(θ) = ½‖θ − c_k‖² with centres c, c + a, c − a: weighted mean, plain mean and median are all c.

        A rule that follows one client at a time (`settles` is False) need only stay among the centres.
        """
        rng = np.random.default_rng(5)
        centre, spread = rng.normal(0, 1, D), rng.normal(0, 1, D)
        centres = [centre, centre + spread, centre - spread]
        strategy, theta = self.build(), np.zeros(D, dtype=np.float32)
        for number in range(self.rounds):
            updates = [
                reply(f"c{k}", number, (0.5 * (c - theta)).astype(np.float32), weight)
                for k, (c, weight) in enumerate(zip(centres, [20, 7, 7], strict=True))
            ]
            theta = play(strategy, theta, updates)
        reach = 0 if self.settles else np.abs(spread)
        assert np.all(np.abs(theta - centre) <= reach + 1e-3), f"θ ends {theta - centre} from the mean"

    def test_a_round_moves_towards_what_all_clients_want(self) -> None:
        """θ stays fp32 of its shape, and rises where every delta is positive."""
        theta = play(self.build(), THETA, [honest(index) for index in range(5)])
        assert theta.dtype == np.float32, theta.dtype
        assert theta.shape == (D,), theta.shape
        assert np.all(theta > THETA), theta - THETA

    def test_codes_are_folded_as_the_delta_that_they_stand_for(self) -> None:
        """A strategy may fold codes or read the decoded delta: nobody can tell which."""
        codec = Int8()
        coded, decoded = [], []
        for index in range(9):
            update = honest(index)
            view = codec.view(codec.encode(update.delta), D)
            coded.append(Update.of_codes(update.client, update.round, view, update.weight, update.metrics))
            decoded.append(replace(update, delta=view.decode()))
        assert_same_bits(play(self.build(), THETA, coded), play(self.build(), THETA, decoded))

    def test_order_of_arrival_does_not_matter(self) -> None:
        """Not one bit, though a floating-point sum of these deltas would depend on it."""
        rng = np.random.default_rng(3)
        scales = 10.0 ** rng.integers(-6, 3, 9)
        deltas = [(scale * rng.normal(0, 1, D)).astype(np.float32) for scale in scales]
        theta = THETA.copy()
        theta[0] = -0.0
        for k, delta in enumerate(deltas):
            delta[0] = 0.0 if k == 0 else -0.0  # equal, but not the same bits
        updates = [reply(f"c{k}", 1, delta, weight=1 + 0.37 * k) for k, delta in enumerate(deltas)]
        first = play(self.build(), theta, updates)
        for _ in range(10):
            assert_same_bits(first, play(self.build(), theta, [updates[k] for k in rng.permutation(9)]))

    def test_zero_deltas_leave_theta_unchanged(self) -> None:
        """Clients that learnt nothing move nothing."""
        zeros = [reply(f"c{k}", 1, np.zeros(D, dtype=np.float32), weight=3) for k in range(4)]
        np.testing.assert_array_equal(play(self.build(), THETA, zeros), THETA)

    def test_what_is_passed_in_is_not_modified_and_not_shared(self) -> None:
        """θ and the deltas are read-only; what `finish` returns is an array of its own."""
        theta, update = THETA.copy(), honest(0)
        theta.flags.writeable = update.delta.flags.writeable = False
        strategy = self.build()
        for result in (play(strategy, theta, [update]), play(strategy, theta, [])):
            assert not np.shares_memory(result, theta), "finish() returned θ itself"
            assert not np.shares_memory(result, update.delta), "finish() returned a delta itself"
            assert result.flags.writeable, "finish() returned a read-only array"

    def test_a_caller_may_reuse_its_buffer(self) -> None:
        """Unless a rule keeps its own copy, a decoder that writes each delta into one buffer would spoil the round."""
        updates = [honest(index) for index in range(4)]
        strategy, buffer = self.build(), np.empty(D, dtype=np.float32)
        strategy.begin(THETA)
        for update in updates:
            buffer[:] = update.delta
            strategy.accept(reply(update.client, 1, buffer, update.weight), update.weight)
        assert_same_bits(strategy.finish(), play(self.build(), THETA, updates))

    def test_a_client_that_holds_a_part_counts_there_and_nowhere_else(self) -> None:
        """Of a strategy that says `partial`: elsewhere θ moves as if that client had not been asked."""
        if not self.build().partial:
            return
        whole, part, places = honest(0), honest(1), np.array([1, 4, 6])
        delta = np.zeros(D, dtype=np.float32)
        delta[places] = part.delta[places]
        counted = replace(part, delta=delta)
        expected = play(self.build(), THETA, [whole])
        expected[places] = play(self.build(), THETA, [whole, counted])[places]
        held = replace(counted, held=Held("part", places))
        assert_same_bits(play(self.build(), THETA, [held, whole]), expected)

    def test_a_discounted_update_counts_for_less(self) -> None:
        """Of a strategy that says `asynchronous`: a stale update's weight is a small part of what its client claims."""
        if not self.build().asynchronous:
            return
        fresh, stale = honest(0), replace(honest(5), delta=-2 * honest(5).delta)
        ends = []
        for discount in (1.0, 0.01):
            strategy = self.build()
            strategy.begin(THETA)
            strategy.accept(fresh, fresh.weight)
            strategy.accept(stale, stale.weight * discount)
            ends.append(strategy.finish())
        assert np.all(ends[1] > ends[0]), f"θ ends at {ends[1]} with a discount of 0.01, at {ends[0]} without"

    def test_memory_does_not_grow_with_the_cohort(self) -> None:
        """Or it grows by what `keeps_replies` and `copies` admit, and by no more."""
        size, replies = 100_000, 200
        strategy, delta = self.build(), np.full(size, 1e-3, dtype=np.float32)
        theta = np.zeros(size, dtype=np.float32)
        play(strategy, theta, [reply("c00", 1, delta, 1)])  # state is allocated here
        tracemalloc.start()
        try:
            strategy.begin(theta)
            for index in range(replies):
                strategy.accept(reply(f"c{index}", 2, delta + np.float32(0), 1), 1)
            held, _ = tracemalloc.get_traced_memory()
            strategy.finish()
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        whole = replies * delta.nbytes
        if self.keeps_replies:
            assert whole <= held <= 1.05 * whole, f"{held} bytes held for {whole} bytes of replies"
            assert peak <= held + self.copies * whole + 8_000_000, f"{peak} bytes at the end of the round"
        else:
            assert held <= 6 * delta.nbytes, f"{held} bytes held"  # sums of 16 bytes an element, and a margin
            assert peak <= 16 * delta.nbytes, f"{peak} bytes at the end of the round"
