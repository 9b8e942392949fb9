"""Any arm that fits, each equally likely: what a bandit must do better than."""

from __future__ import annotations

from fedpeft.scheduling.contract import Choice, Request, Scheduler


class Uniform(Scheduler):
    """Draws from the arms that fit, by the seed of the run, the round and the client; learns nothing."""

    needs_judges = False

    def choose(self, request: Request) -> Choice:
        """See `Scheduler.choose`."""
        count = len(request.offered)
        return Choice(request.offered[request.stream().below(count)], "drawn", 1.0 / count)
