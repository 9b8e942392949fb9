"""What schedulers share that learn the reward of each arm for each device class, and keep nothing else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fedpeft.scheduling.class_statistics import ClassStatistics, check_share
from fedpeft.scheduling.contract import Outcome, Scheduler, Setting


class ClassLearner(Scheduler):
    """A scheduler that has `seen` discounted counts and reward sums.

    Args:
        discount: ρ in (0, 1]; 0.995 halves what was seen 138 observations of the class ago, 1 never forgets.

    Raises:
        ValueError: another discount.
    """

    def __init__(self, discount: float = 0.995) -> None:
        self.discount = check_share("discount", discount)

    def begin(self, setting: Setting) -> None:
        """See `Scheduler.begin`."""
        super().begin(setting)
        self.seen = ClassStatistics(len(self.grid.arms), self.discount)

    def observe(self, outcomes: Sequence[Outcome]) -> None:
        """See `Scheduler.observe`."""
        self.seen.add(outcomes)

    def state(self) -> dict[str, Any]:
        """See `Scheduler.state`."""
        return self.seen.state()

    def restore(self, state: Mapping[str, Any]) -> None:
        """See `Scheduler.restore`."""
        self.seen.restore(state)
