"""When a client is pruned, and by how much: from a first round on, growing to its target plan by plan.

With first round s, a ramp of R rounds and a plan made every E rounds, the mask of round t is that of the plan made for

    p(t) = s + E ⌊(t − s)/E⌋,      ρ(t) = ρ · min(1, (p(t) − s + 1)/R),      nothing before s

so a client's model is cut anew at most every E rounds, and the ratio grows only then: the whole of it is reached by the
first plan that is made R − 1 rounds after s or later, and holds from that plan's round on. With E >= R − 1 that is the
second plan: E rounds at ρ/R, then ρ. R = 0 or 1: ρ at once.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Ramp:
    """The timetable.

    >>> ramp = Ramp(start=2, ramp=4, every=2)
    >>> [round(ramp.ratio(0.8, number), 2) for number in range(1, 8)]
    [0.0, 0.2, 0.2, 0.6, 0.6, 0.8, 0.8]
    >>> ramp = Ramp(start=2, ramp=2, every=4)
    >>> [round(ramp.ratio(0.8, number), 2) for number in range(1, 8)]
    [0.0, 0.4, 0.4, 0.4, 0.4, 0.8, 0.8]
    """

    start: int  # s, the first round in which anything is pruned, >= 1
    ramp: int  # R: a plan made n rounds after the first has (n + 1)/R of the ratio, all of it at most; 0 = all
    every: int  # E, rounds that a plan holds, >= 1

    def planned(self, number: int) -> int:
        """p(t), the round for which the plan of round `number` was made; 0 before the first."""
        if number < self.start:
            return 0
        return number - (number - self.start) % self.every

    def ratio(self, target: float, number: int) -> float:
        """ρ(t) of a target ρ."""
        made = self.planned(number)
        if not made:
            return 0.0
        if self.ramp == 0 or made - self.start + 1 >= self.ramp:
            return target
        part = target * (made - self.start + 1) / self.ramp
        return round(part, 9)  # 0.2, not 0.19999999999999998: it may be the ratio of an arm
