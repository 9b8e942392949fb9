"""Several runs as one line of a results table: mean and interval over seeds, and the paired differences."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from fedpeft.report.statistics import MeanInterval, mean_interval
from fedpeft.report.summary import RunResult

APART = ("run.seed", "run.name", "run.folder")
"""Keys in which runs of one group may differ; so may the kernel, which each machine chooses."""

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
    seeds: tuple[int, ...]
    runs: tuple[str, ...]  # names of their folders
    folders: tuple[str, ...]
    federated: tuple[float | None, ...]  # of each run: the headline metric of its last adapter
    rows: dict[str, MeanInterval]  # by the names of `ROWS`, those that there are
    frame_up: tuple[int, ...] = ()  # of each run: bytes that all clients sent

    def to_json(self) -> dict[str, Any]:
        """As JSON values, each row with both ends of its interval."""
        rows = {name: {**asdict(row), "low": row.low, "high": row.high} for name, row in self.rows.items()}
        return {**asdict(self), "rows": rows}


def group_runs(runs: Iterable[tuple[RunResult, str]]) -> list[Group]:
    """Put runs of one run file together, in the order in which each file first comes.

    Args:
        runs: result, and the resolved run file as TOML. Runs that have not finished are left out.
    """
    groups: dict[str, list[tuple[RunResult, int]]] = {}
    for result, config_toml in runs:
        if result.finished:
            table = tomllib.loads(config_toml)
            groups.setdefault(repr(_without(table)), []).append((result, int(table["run"]["seed"])))
    return [_group(found) for found in groups.values()]


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


def _without(table: dict[str, Any]) -> list[tuple[str, str]]:
    """What must be equal: every other key, as text."""
    flat = {
        f"{section}.{key}": value
        for section, keys in table.items()
        for key, value in (keys.items() if isinstance(keys, dict) else [("", keys)])
    }
    return sorted((key, repr(value)) for key, value in flat.items() if key not in (*APART, "engine.kernel"))


def _group(found: Sequence[tuple[RunResult, int]]) -> Group:
    columns = [_values(result) for result, _ in found]
    rows = {}
    for name, (key, minus) in ROWS.items():
        values = [c[key] - (c[minus] if minus else 0.0) for c in columns if key in c and (not minus or minus in c)]
        row = mean_interval(values)
        if row is not None:
            rows[name] = row
    names = [result.name for result, _ in found]
    return Group(
        name=_common(names),
        metric=found[0][0].metric,
        seeds=tuple(seed for _, seed in found),
        runs=tuple(result.folder.name for result, _ in found),
        folders=tuple(str(result.folder) for result, _ in found),
        federated=tuple(result.federated for result, _ in found),
        rows=rows,
        frame_up=tuple(result.frame_up for result, _ in found),
    )


def _values(result: RunResult) -> dict[str, float]:
    after = result.clients.get("after", {}).get(result.metric)
    values = {
        "zero_shot": result.zero_shot,
        "federated": result.federated,
        "best": result.best,
        "centralised": result.centralised,
        "per_client": after.mean if after else None,
        "worst_clients": after.worst if after else None,
    }
    return {key: value for key, value in values.items() if value is not None}


def _common(names: Sequence[str]) -> str:
    """The run file's own name: names without their `-seed7`; where they differ beyond it, the first."""
    plain = {re.sub(r"-seed\d+$", "", name) for name in names}
    return plain.pop() if len(plain) == 1 else names[0]
