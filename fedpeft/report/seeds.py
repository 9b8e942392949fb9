"""Several runs as one line of a results table: mean and interval over seeds, and the paired differences."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from fedpeft.report.record import RunRecord, same_settings
from fedpeft.report.statistics import MeanInterval, mean_interval

ROWS = {
    "zero-shot": ("zero_shot", ""),
    "federated": ("federated", ""),
    "best round": ("best", ""),
    "centralised": ("centralised", ""),
    "federated - zero-shot": ("federated", "zero_shot"),
    "federated - centralised": ("federated", "centralised"),
    "mean per-client": ("per_client", ""),
    "worst tenth of clients": ("worst_clients", ""),
}
"""Rows of the table: a value, or the difference of two within each run."""


@dataclass(frozen=True, slots=True)
class Group:
    """Runs that differ in their seed only."""

    name: str
    metric: str
    records: tuple[RunRecord, ...]
    rows: dict[str, MeanInterval]  # by the names of `ROWS`, those that there are
    repeats: int = 0  # runs left out, since another had their seed

    @property
    def seeds(self) -> tuple[int, ...]:
        """Of each run."""
        return tuple(one.seed for one in self.records)

    @property
    def federated(self) -> tuple[float | None, ...]:
        """Of each run: the headline metric of its last adapter."""
        return tuple(one.values.get("federated") for one in self.records)

    @property
    def uplink(self) -> float:
        """Bytes that all clients sent, mean over the runs."""
        return sum(one.frame_up for one in self.records) / len(self.records)

    def to_json(self) -> dict[str, Any]:
        """As JSON values, each row with both ends of its interval."""
        return {
            "name": self.name,
            "metric": self.metric,
            "seeds": self.seeds,
            "runs": [one.name for one in self.records],
            "federated": self.federated,
            "repeats": self.repeats,
            "rows": {name: {**asdict(row), "low": row.low, "high": row.high} for name, row in self.rows.items()},
            "frame_up": [one.frame_up for one in self.records],
        }


def group_runs(records: Iterable[RunRecord]) -> list[Group]:
    """Put runs of the same settings together, in the order in which each first comes, each group under its own name.

    Runs of one seed are one draw: the last of them stands for it.
    """
    every: dict[str, list[RunRecord]] = {}
    for record in records:
        every.setdefault(same_settings(record), []).append(record)
    names: Counter[str] = Counter()
    groups = []
    for found in every.values():
        group = _group(list({record.seed: record for record in found}.values()), len(found))
        names[group.name] += 1
        again = names[group.name]
        groups.append(replace(group, name=f"{group.name} ({again})") if again > 1 else group)
    return groups


@dataclass(frozen=True, slots=True)
class Difference:
    """A group against the first one that has the same metric, seed by seed."""

    name: str
    against: str
    seeds: tuple[int, ...]  # that both have
    difference: MeanInterval

    def to_json(self) -> dict[str, Any]:
        """As JSON values, with both ends of the interval."""
        return {**asdict(self), "low": self.difference.low, "high": self.difference.high}


def differences(groups: Sequence[Group]) -> list[Difference]:
    """What each group has more than the first, paired by seed: runs of one seed share data, cohorts, initialisation."""
    found, first = [], groups[0] if groups else None
    for group in groups[1:]:
        assert first is not None
        ours, theirs = (dict(zip(one.seeds, one.federated, strict=True)) for one in (group, first))
        pairs = {seed: (ours[seed], theirs.get(seed)) for seed in ours}
        values = {seed: a - b for seed, (a, b) in pairs.items() if a is not None and b is not None}
        row = mean_interval(list(values.values()))
        if row is not None and group.metric == first.metric:
            found.append(Difference(group.name, first.name, tuple(values), row))
    return found


def _group(found: Sequence[RunRecord], runs: int) -> Group:
    columns = [one.values for one in found]
    rows = {}
    for name, (key, minus) in ROWS.items():
        values = [c[key] - (c[minus] if minus else 0.0) for c in columns if key in c and (not minus or minus in c)]
        row = mean_interval(values)
        if row is not None:
            rows[name] = row
    return Group(_common([one.name for one in found]), found[0].metric, tuple(found), rows, runs - len(found))


def _common(names: Sequence[str]) -> str:
    """The run file's own name: names without their `-seed7`; where they differ beyond it, the first."""
    plain = {re.sub(r"-seed\d+$", "", name) for name in names}
    return plain.pop() if len(plain) == 1 else names[0]
