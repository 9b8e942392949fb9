"""What a scheduler did, read from the journal: choices, rewards, and what better choices would have brought.

Regret is counted in reward, choice by choice in the order of the run. With μ̂(c, a) the mean of the rewards observed of
arm a on devices of class c,

    R_n = Σ_{i ≤ n} μ̂(c_i, a*(c_i)) - r_i

where a*(c) is the arm of the best mean in hindsight, among those observed `ENOUGH` times where there are such: the best
of many noisy means is a little too good, so this regret is a little too large. In a simulation another a* is known, the
oracle's under the time model; its μ̂ is known too where the run tried it.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean

from fedpeft.journal import Event, EventKind
from fedpeft.report.summary import OracleArm
from fedpeft.report.units import MISSING, count_text, percent_text

ENOUGH = 3
"""Observations of an arm that make its mean worth looking at."""

HEAD = ("devices", "choices", "most chosen in the last third", "share", "best in hindsight", "mean reward", "oracle's")


@dataclass(frozen=True, slots=True)
class Chosen:
    """One choice of a committed round."""

    round: int
    client: str
    device: str
    place: int
    arm: str  # in words


@dataclass(frozen=True, slots=True)
class Rewarded:
    """One reward of a committed round."""

    round: int
    device: str
    place: int
    reward: float
    arm: str  # in words


@dataclass(frozen=True, slots=True)
class Waited:
    """One client that a committed round waited for, or whose reply an asynchronous one has folded in."""

    round: int
    seconds: float | None  # from asking to the answer; None: given up at the deadline


@dataclass(slots=True)
class ScheduleHistory:
    """All choices, rewards and waits of the committed part of a run, in order."""

    chosen: list[Chosen] = field(default_factory=list)
    rewarded: list[Rewarded] = field(default_factory=list)
    waited: list[Waited] = field(default_factory=list)
    names: dict[int, str] = field(default_factory=dict)  # place -> the arm in words: of all chosen, or rewarded (an
    # arm that is played as another before the ramp has ended is rewarded as that one, which nobody need have chosen)

    @property
    def devices(self) -> list[str]:
        """The classes, sorted by name, as everywhere in the report."""
        return sorted({one.device for one in self.chosen})

    def means(self, device: str) -> dict[int, tuple[float, int]]:
        """place -> (mean reward, observations) on devices of a class."""
        found: defaultdict[int, list[float]] = defaultdict(list)
        for one in self.rewarded:
            if one.device == device:
                found[one.place].append(one.reward)
        return {place: (fmean(rewards), len(rewards)) for place, rewards in sorted(found.items())}

    def best(self, device: str) -> int | None:
        """a*(c) in hindsight; None where nothing was observed."""
        means = self.means(device)
        often = {place: mean for place, (mean, count) in means.items() if count >= ENOUGH}
        known = often or {place: mean for place, (mean, _) in means.items()}
        return max(known, key=lambda place: (known[place], -place)) if known else None

    def regret(self, arms: Mapping[str, int]) -> list[tuple[int, float]]:
        """(round, R) after each round, against one arm for each class; nothing where one of them was not observed."""
        against = {device: self.means(device).get(place) for device, place in arms.items()}
        sums: dict[int, float] = {}
        total = 0.0
        for one in self.rewarded:
            known = against.get(one.device)
            if known is None:
                return []
            total += known[0] - one.reward
            sums[one.round] = total
        return list(sums.items())


def schedule_history(events: Iterable[Event]) -> ScheduleHistory:
    """Sort the events of a run; what an attempt chose or saw that was not committed is left out."""
    history = ScheduleHistory()
    chosen: list[Chosen] = []
    rewarded: list[Rewarded] = []
    waited: list[float | None] = []
    late: set[str] = set()  # clients whose reply to an earlier round is folded in: nobody waited for it in this one
    for event in events:
        payload, number = event.payload, event.round or 0
        match event.kind:
            case EventKind.RUN_STARTED | EventKind.ROUND_SHORT:
                chosen, rewarded, waited, late = [], [], [], set()
            case EventKind.ARM_CHOSEN:
                arm = arm_text(payload)
                chosen.append(Chosen(number, event.client or "", payload["device"], payload["place"], arm))
            case EventKind.ARM_REWARDED if payload["reward"] is not None:
                told = payload["device"], payload["place"], payload["reward"], arm_text(payload)
                rewarded.append(Rewarded(number, *told))
            case EventKind.LATE if event.client is not None:
                late.add(event.client)
            case EventKind.ACCEPTED if not (payload.get("age") and event.client in late):
                waited.append(payload["seconds"])
            case EventKind.ABANDONED:
                waited.append(None)
            case EventKind.COMMITTED:
                history.chosen += chosen
                history.rewarded += rewarded
                history.waited += [Waited(number, seconds) for seconds in waited]
                history.names |= {one.place: one.arm for one in chosen} | {one.place: one.arm for one in rewarded}
                chosen, rewarded, waited, late = [], [], [], set()
    return history


def arm_text(payload: Mapping[str, object]) -> str:
    """An arm in words, from an event."""
    rank = [f"rank {payload['rank']}"] if payload["rank"] is not None else []
    pruned = [f"pruned {payload['pruning']:g}"] if payload["pruning"] else []
    return ", ".join([*rank, *pruned, str(payload["codec"]), f"{payload['steps']} steps"])


def schedule_rows(history: ScheduleHistory, oracle: Mapping[str, OracleArm]) -> list[Sequence[str]]:
    """A row of `HEAD` for each device class.

    Args:
        history: of the run.
        oracle: by device class, the arm that the time model says is best; empty where nobody knows.
    """
    last = max((one.round for one in history.chosen), default=0)
    rows: list[Sequence[str]] = []
    for device in history.devices:
        own = [one for one in history.chosen if one.device == device]
        late = Counter(one.place for one in own if one.round > last - max(1, last // 3))
        place, count = late.most_common(1)[0] if late else (None, 0)
        best = history.best(device)
        rows.append(
            (
                device,
                count_text(len(own)),
                MISSING if place is None else history.names[place],
                MISSING if place is None else percent_text(count / late.total()),
                MISSING if best is None else history.names[best],
                MISSING if best is None else f"{history.means(device)[best][0]:.3f}",
                oracle[device].name if device in oracle else MISSING,
            )
        )
    return rows
