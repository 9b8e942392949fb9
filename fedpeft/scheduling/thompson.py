"""Thompson sampling: draw what each arm may be worth, take the best draw.

Agrawal and Goyal 2013, "Further Optimal Regret Bounds for Thompson Sampling" (arXiv 1209.3353), Algorithm 2, Gaussian
priors, for each device class:

    θ(a) ~ N(μ̂(a), σ² / (N(a) + 1)),   μ̂(a) = (½ + N(a) X̄(a)) / (N(a) + 1),      a = argmax θ(a)

The prior is one observation of the usual reward ½ (theirs is 0), and σ is how much rewards of one arm scatter (theirs
is 1, for any reward in [0, 1]). With a discount, N and X̄ fade as in `ucb`. Devices of one class draw each for itself,
so a cohort spreads without counting who is at work on what.
"""

from __future__ import annotations

import numpy as np

from fedpeft.scheduling.class_learner import ClassLearner
from fedpeft.scheduling.class_statistics import best_of, check_positive
from fedpeft.scheduling.contract import Choice, Request


class Thompson(ClassLearner):
    """Gaussian Thompson sampling for each device class.

    Args:
        discount: ρ in (0, 1]; 1 never forgets.
        scatter: σ >= 0, standard deviation of the rewards of one arm.
    """

    def __init__(self, discount: float = 0.995, scatter: float = 0.1) -> None:
        super().__init__(discount)
        self.scatter = check_positive("scatter", scatter)

    def choose(self, request: Request) -> Choice:
        """See `Scheduler.choose`."""
        counts, sums = self.seen.of(request.device)
        means = (0.5 + sums) / (counts + 1.0)
        draws = request.stream().uniform(2 * len(counts))
        normal = np.sqrt(-2.0 * np.log(1.0 - draws[::2])) * np.cos(2.0 * np.pi * draws[1::2])  # Box and Muller
        sampled = means + self.scatter * normal / np.sqrt(counts + 1.0)
        place = best_of(sampled, request.offered, request)
        return Choice(place, f"mean {means[place]:.3f}, drew {sampled[place]:.3f}")
