"""Who of a cohort trains the whole model so that the others can be judged.

A gain is told by what others want who trained the whole model (`fedpeft.scheduling.alignment`). In a cohort that is
pruned to a man nobody learns what anything was worth, and a scheduler that learns nothing chooses the same again. So of
n clients in a cohort at least

    J = min(2 + round.over_select, n - 1)

are given an arm that is pruned the least, as far as so many can hold one: two, since nobody judges itself, and as many
more as may not be waited for. J clients are drawn, by the run's seed, the round and the cohort, and are chosen for
last. Who of them comes to a point where there would be fewer than J if it did otherwise is offered those arms alone;
mostly the others have chosen enough of them, and nobody is told anything. Whether a client is restricted depends on
what others chose and never on its own choice, so the probability of a choice is the scheduler's own, of a draw from
what was offered.
"""

from __future__ import annotations

from collections.abc import Sequence

from fedpeft.randomness.streams import Stream, derive
from fedpeft.types import ClientInfo

JUDGES = 2
"""Nobody judges itself."""


class Judges:
    """Those of one cohort.

    Args:
        cohort: who is about to be asked, in id order.
        able: those of them that an arm fits which is pruned the least.
        besides: who is at work on what the same commit will fold in.
        whole: how many of those are pruned the least.
        spare: replies that may not be waited for.
        seed: of the run.
        key: of the draw: round, attempts that came short.
    """

    def __init__(
        self,
        cohort: Sequence[ClientInfo],
        able: Sequence[ClientInfo],
        besides: int,
        whole: int,
        spare: int,
        seed: int,
        key: tuple[int, ...],
    ) -> None:
        self.wanted = max(0, min(JUDGES + spare, len(cohort) + besides - 1))
        self.whole = whole
        drawn = _drawn(able, self.wanted, Stream(derive(seed, "judges", *key, cohort[0].client if cohort else "")))
        self.order = [info for info in cohort if info not in drawn] + drawn
        self.left = len(drawn)  # of those drawn, to be chosen for yet
        self._drawn = {info.client for info in drawn}

    def needed(self, info: ClientInfo) -> bool:
        """Whether the next in `order` has to judge."""
        return info.client in self._drawn and self.whole + self.left <= self.wanted

    def chose(self, info: ClientInfo, whole: bool) -> None:
        """Note what was chosen for the next in `order`."""
        self.left -= info.client in self._drawn
        self.whole += whole


def _drawn(able: Sequence[ClientInfo], count: int, stream: Stream) -> list[ClientInfo]:
    """So many of them or all, in their order."""
    places, found = list(range(len(able))), list[int]()
    while places and len(found) < count:
        found.append(places.pop(stream.below(len(places))))
    return [able[place] for place in sorted(found)]


__all__ = ["Judges"]
