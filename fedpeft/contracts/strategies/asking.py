"""Asking: whom a round asks, and what each client is told."""

from __future__ import annotations

from collections import Counter

from fedpeft.contracts.strategies.toy import Subject, error_of, info
from fedpeft.registry import names
from fedpeft.types import ClientId, Plan


class Asking(Subject):
    """A cohort is drawn from the seed, among those that are there; a plan keeps what is not the strategy's."""

    def test_a_cohort_is_seeded_distinct_and_available(self) -> None:
        """Equal seeds, equal cohorts; other seeds, nearly always others."""
        available = [info(index) for index in range(20)]
        cohorts = [self.build().select(available, 6, seed) for seed in range(30)]
        assert cohorts == [self.build().select(available, 6, seed) for seed in range(30)], "the draw is not seeded"
        assert len({tuple(cohort) for cohort in cohorts}) > 25, "the seed hardly matters"
        for cohort in cohorts:
            assert len(cohort) == len(set(cohort)) == 6, cohort
            assert set(cohort) <= {one.client for one in available}, cohort

    def test_a_cohort_does_not_depend_on_the_order_of_the_available(self) -> None:
        """Clients become available in any order."""
        available = [info(index) for index in range(20)]
        assert self.build().select(available, 6, seed=4) == self.build().select(available[::-1], 6, seed=4)

    def test_all_are_asked_when_fewer_are_there(self) -> None:
        """And nobody, when nobody is there or wanted; a negative count is an error."""
        available = [info(index) for index in range(3)]
        assert sorted(self.build().select(available, 5, seed=0)) == ["c00", "c01", "c02"]
        assert self.build().select([], 5, seed=0) == []
        assert self.build().select(available, 0, seed=0) == []
        error = error_of(ValueError, lambda: self.build().select(available, -1, seed=0))
        assert "count = -1" in str(error), error

    def test_each_client_is_asked_as_often_as_any_other(self) -> None:
        """Over a thousand rounds, to within five standard deviations of a uniform draw; or of 1, if not `uniform`."""
        available, rounds = [info(index) for index in range(10)], 1000
        strategy = self.build()
        counts = Counter(client for seed in range(rounds) for client in strategy.select(available, 3, seed))
        expected = rounds * 0.3
        slack = 5 * (rounds * 0.3 * 0.7) ** 0.5 if self.uniform else 1
        assert len(counts) == 10, counts
        assert all(abs(count - expected) <= slack for count in counts.values()), counts

    def test_a_plan_keeps_what_the_strategy_does_not_own(self) -> None:
        """The objective and its parameters are the strategy's; all else stays as it was."""
        plan = Plan("run", 4, 2, ClientId("c03"), 77, 9, 16, 1e-3, weight_decay=0.1, rank=4, codec="fp16", version=3)
        strategy = self.build()
        planned = strategy.plan(plan, info(3))
        assert planned.objective == strategy.objective
        assert planned.objective in names("objective") or ".py:" in planned.objective, planned.objective
        assert dict(planned.objective_params) == dict(strategy.objective_params)
        for name in Plan.__slots__:
            if name not in {"objective", "objective_params"}:
                assert getattr(planned, name) == getattr(plan, name), name
