"""What an arm was worth: progress per relative completion time.

Client k trained under arm a in a round and answered T_k seconds after it was asked; g_k is what its update adds to the
step that the cohort agrees on (`fedpeft.scheduling.alignment`). With the references S (gain) and T̄ (seconds) of the
cohort,

    γ_k = max(0, g_k) / S                          its gain, where 1 is usual
    τ_k = T_k / T̄                                  its relative completion time, where 1 is usual
    x_k = γ_k / max(1, τ_k)^β                       β = `slowness`, 2 unless told otherwise
    r_k = x_k / (1 + x_k)                           the reward, in [0, 1); ½ is usual

Only being slower than the cohort costs: a synchronous round lasts as long as its slowest client, so a fast device had
better use its time for more steps than be done early. β = 1 counts the client's own time, progress per relative
second; but a straggler's round keeps all others waiting too, whose gains come as much later, so β is 2.

Choices are under two constraints, the deadline D (`round.deadline_s`) and the memory M_k that client k reports, M(a)
being what arm a needs:

    a_k ∈ { a : M(a) <= M_k },      r_k = 0 where T_k > D

An arm that does not fit is not offered (`fedpeft.server.offers`; who reports no memory is offered all), and whoever is
not back at the deadline has added nothing to the round.

S is the median of |g_k| over the cohort and T̄ that of T, so that one client, however mad its update, does not move
what is usual; both are smoothed over commits,

    S ← (1 - λ) S + λ S_round,      λ = ½, the first commit as it is

so that a reward tells arms of one round apart and means much the same in the next, when all gains are smaller. Seconds
count in whole milliseconds, so that no rounding error of a clock decides.

What this does not see: how much of what the cohort agrees on is good for anybody. A client that sends a longer update
has more gain, up to `limits.max_update_norm`; as r < 1, one that praises its own arm so moves its class by one
observation of many. How far it can spoil the gains of others: `fedpeft.scheduling.alignment`.

The form, gain against *relative* time, is FedSpine's (Yao et al. 2025, "Efficient Deployment of Large Language Models
on Resource-constrained Devices", arXiv 2501.02438). It adds pruning progress and the importance of the update, and its
constants are not public: the equation above is fedpeft's own.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

SMOOTHING = 0.5
"""λ, the weight of the newest commit in the references."""


@dataclass(frozen=True, slots=True)
class Measured:
    """What the coordinator saw of one reply; `seconds` is None for a client that was not back at the deadline."""

    seconds: float | None  # of the coordinator's clock, from asking to the answer
    gain: float | None = None  # g_k; None: nobody to agree with, or no reply

    @property
    def told(self) -> bool:
        """Whether there is anything to learn: a gain, or a deadline missed."""
        return self.seconds is None or (self.gain is not None and math.isfinite(self.gain))


@dataclass(frozen=True, slots=True)
class Reference:
    """What is usual: S and T̄. None before the first commit with replies."""

    gain: float | None = None
    seconds: float | None = None

    def after(self, cohort: Sequence[Measured]) -> Reference:
        """Moved on by the replies of one commit."""
        heard = [one for one in cohort if one.told and one.seconds is not None]
        if not heard:
            return self
        gain = median(abs(one.gain or 0.0) for one in heard)
        seconds = median(_milliseconds(one.seconds or 0.0) for one in heard)
        return Reference(_smoothed(self.gain, gain), _smoothed(self.seconds, seconds))

    def relative(self, seconds: float) -> float:
        """τ of a completion time; 1 where nothing takes any time."""
        return _milliseconds(seconds) / self.seconds if self.seconds else 1.0

    def reward(self, one: Measured, slowness: float = 2.0) -> float:
        """r of one reply, of the cohort that this reference was moved on by.

        Args:
            one: what was measured, `told`.
            slowness: β >= 0; 0 ignores time.
        """
        if one.seconds is None or not self.gain:
            return 0.0
        x = max(0.0, one.gain or 0.0) / self.gain / math.pow(max(1.0, self.relative(one.seconds)), slowness)
        return 1.0 - 1.0 / (1.0 + x)  # x / (1 + x), also where x is infinite


def _smoothed(before: float | None, now: float) -> float:
    return now if before is None else (1.0 - SMOOTHING) * before + SMOOTHING * now


def _milliseconds(seconds: float) -> float:
    return round(seconds, 3)
