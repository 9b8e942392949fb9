"""Discounted UCB: the arm whose reward could be highest, given how often and how recently it was tried.

Garivier and Moulines 2011, "On Upper-Confidence Bound Policies for Switching Bandit Problems" (arXiv 0805.3415),
Discounted UCB, for each device class:

    a = argmax  X̄(a) + c sqrt(ln n / N(a)),      n = Σ_a N(a)

with N and X̄ of `fedpeft.scheduling.class_statistics`; their 2B·sqrt(ξ) is c here, and rewards lie in [0, 1]. Arms
that were never tried come first, in an order drawn for each client. What like devices work on now counts in N and n.
"""

from __future__ import annotations

import numpy as np

from fedpeft.scheduling.class_learner import ClassLearner
from fedpeft.scheduling.class_statistics import at_work, best_of, check_positive
from fedpeft.scheduling.contract import Choice, Request


class Ucb(ClassLearner):
    """Discounted UCB for each device class.

    Args:
        discount: ρ in (0, 1]; 0.995 halves what was seen 138 observations of the class ago, 1 never forgets.
        exploration: c >= 0. Arms differ by a tenth or two in reward, so 1 would never stop exploring in a few rounds.
    """

    def __init__(self, discount: float = 0.995, exploration: float = 0.05) -> None:
        super().__init__(discount)
        self.exploration = check_positive("exploration", exploration)

    def choose(self, request: Request) -> Choice:
        """See `Scheduler.choose`."""
        counts, sums = self.seen.of(request.device)
        plays = counts + at_work(request, len(counts))
        untried = [place for place in request.offered if plays[place] == 0.0]
        if untried:
            return Choice(untried[request.stream().below(len(untried))], "not tried yet")
        # an arm that is at work and was never heard of has no mean yet: it is taken for usual
        means = np.divide(sums, counts, out=np.full(len(counts), 0.5), where=counts > 0)
        total = max(float(plays[list(request.offered)].sum()), 1.0)
        bonus = self.exploration * np.sqrt(np.log(total) / np.maximum(plays, 1e-12))
        place = best_of(means + bonus, request.offered, request)
        return Choice(place, f"mean {means[place]:.3f} + {bonus[place]:.3f}")
