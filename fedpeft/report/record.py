"""A finished run as one line of text: what `fedpeft compare` needs of it, without its folder.

journal ──> RunRecord ──> a line of FILE.jsonl ──> RunRecord, on any machine and in any later session
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import field
from pathlib import Path
from typing import Any

from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from fedpeft.errors import DataError
from fedpeft.journal import Journal
from fedpeft.report.history import History, read_history
from fedpeft.report.named_file import write_named
from fedpeft.report.points import MIXING
from fedpeft.report.summary import RunResult, summarise
from fedpeft.version import __version__

SUFFIX = ".jsonl"

_STRICT = ConfigDict(extra="forbid", ser_json_inf_nan="constants")


@dataclass(frozen=True, slots=True, config=_STRICT)
class CurvePoint:
    """One evaluation of the federated adapter on the coordinator's test set, and what had been spent by then."""

    round: int
    seconds: float  # of the rounds up to it, on the coordinator's clock, with attempts that came short
    uplink: int  # bytes of all clients' frames up to it
    passes: int  # of examples through the model up to it, as `RunPlan.step_passes` counts; 0: not told
    metrics: Mapping[str, float]  # all that was measured; accuracies from 0 to 1


@dataclass(frozen=True, slots=True, config=_STRICT)
class RunRecord:
    """A finished run: its settings, what it came to, and its curve.

    `values` are those of the headline metric, accuracies from 0 to 1; `per_client` and `worst_clients` are the mean
    and the worst tenth over the clients' own held-out examples.
    """

    name: str  # of its folder
    seed: int
    metric: str  # the headline metric
    values: Mapping[str, float]  # of it, as far as known: zero_shot, federated, best, centralised, per_client, ...
    frame_up: int  # bytes of fedpeft's frames, clients to coordinator
    frame_down: int
    adapter_hash: str  # sha256 hex of the last commit
    tests: tuple[CurvePoint, ...]  # in round order
    settings: Mapping[str, Any]  # the resolved run file, without what `APART` names
    version: str = __version__  # of fedpeft, which ran it
    larger_is_better: bool | None = None  # of the headline metric, as its task says; None: known by its name
    mixing: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    """What mixing LoRA factors cost after each round, by the names of `MIXING`; empty: no rule, or not told."""


APART = (("run", "seed"), ("run", "name"), ("run", "folder"), ("engine", "kernel"))
"""Keys in which runs of the same settings may differ; each machine chooses its kernel."""

_RECORDS = TypeAdapter(RunRecord)


def record_of(journal: Journal) -> RunRecord | None:
    """What a journal tells; None of a run that has not finished."""
    result = summarise(journal)
    if not result.finished:
        return None
    table = tomllib.loads(journal.config_toml)
    history = read_history(list(journal.events()))
    return RunRecord(
        name=result.folder.resolve().name,  # also of "."
        seed=int(table["run"]["seed"]),
        metric=result.metric,
        values=_values(result),
        frame_up=result.frame_up,
        frame_down=result.frame_down,
        adapter_hash=result.adapter_hash,
        tests=curve_points(history),
        settings=_settings(table),
        larger_is_better=result.larger_is_better,
        mixing=_mixing(history),
    )


def curve_points(history: History) -> tuple[CurvePoint, ...]:
    """The evaluations of a run's federated adapter, with what had been spent by then; round 0 is before training."""
    spent = {0: (0.0, 0, 0)}
    seconds, uplink, passes = 0.0, 0, 0
    for row in history.rounds:
        seconds += row.seconds
        uplink += row.moved.get("frame_up", 0)
        passes += row.passes
        spent[row.round] = seconds, uplink, passes
    known = [item for item in history.tests if item.round in spent]
    return tuple(CurvePoint(item.round, *spent[item.round], dict(item.metrics)) for item in known)


def _mixing(history: History) -> dict[str, tuple[float, ...]]:
    told = [row.mixing for row in history.rounds if row.mixing]
    return {name: tuple(costs[name] for costs in told) for name in MIXING} if told else {}


def same_settings(record: RunRecord) -> str:
    """A text that is equal of runs that differ in no key but those of `APART`."""
    return json.dumps(dict(record.settings), sort_keys=True)


def once(records: Iterable[RunRecord]) -> list[RunRecord]:
    """Each run once, though a folder and a file may both have it: the last with its name, seed and settings."""
    return list({(one.name, one.seed, same_settings(one)): one for one in records}.values())


def read_records(path: Path) -> list[RunRecord]:
    """The runs of a file that `write_records` wrote.

    Raises:
        DataError: it cannot be read, or a line of it is no record; names the line.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(
            f"{path} cannot be read: {error}", code="report.no-records", allowed=_ALLOWED, remedy="check the path"
        ) from error
    return [_parse(line, path, number) for number, line in enumerate(lines, start=1) if line.strip()]


def write_records(path: Path, records: Iterable[RunRecord]) -> int:
    """Add runs to a file, a line each; what it has of them already is replaced.

    Returns:
        How many runs the file has now.

    Raises:
        DataError: it cannot be written, or what is there is no file of runs.
    """
    found = once([*(read_records(path) if path.exists() else ()), *records])
    write_named(path, b"".join(_RECORDS.dump_json(one) + b"\n" for one in found))
    return len(found)


_ALLOWED = "a file that `fedpeft compare RUN ... --save FILE.jsonl` wrote"


def _parse(line: str, path: Path, number: int) -> RunRecord:
    try:
        return _RECORDS.validate_json(line)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise DataError(
            f"{path}, line {number}: no run that was saved: {where and where + ': '}{first['msg']}",
            code="report.no-records",
            allowed=_ALLOWED,
            remedy="remove the line, or write the file again from the runs' folders",
        ) from None


def _settings(table: dict[str, Any]) -> dict[str, Any]:
    """The resolved run file without what may differ; of the data's folder its own name, the same on every machine."""
    found = {name: dict(keys) if isinstance(keys, dict) else keys for name, keys in table.items()}
    for section, key in APART:
        found.get(section, {}).pop(key, None)
    if isinstance(folder := found.get("data", {}).get("folder"), str):
        found["data"]["folder"] = Path(folder).name
    return found


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
