"""Whether a run that is to go on is still the one that began: its settings then, and those given now."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any

from fedpeft.config import RunConfig
from fedpeft.simulation.mixing import DEFAULT, leaves_rule_open

SHOWN = 3
"""Changed keys that an error names."""


def changed_keys(began: RunConfig, now: RunConfig, *, free: Collection[str] = ()) -> dict[str, tuple[Any, Any]]:
    """Dotted key -> its values (then, now), of the keys that differ.

    Args:
        began: as the run's journal keeps it.
        now: as given to go on; what it leaves open the run has settled, which is no change: "auto", a device without
            its number, the rule by which different ranks are mixed.
        free: keys that may differ.
    """
    then, given = (dict(_keys(config.model_dump(mode="json"))) for config in (began, now))
    settled = {key for key in given if _leaves_open(now, key, given[key], then.get(key))}
    return {
        key: (then.get(key), given.get(key))
        for key in sorted({*then, *given} - {*free, *settled})
        if given.get(key) != then.get(key)
    }


def told(changed: dict[str, tuple[Any, Any]]) -> str:
    """The changes in words, the first of them."""
    lines = [f"{key} = {now!r} (was {then!r})" for key, (then, now) in changed.items()]
    more = f" and {len(lines) - SHOWN} more" if len(lines) > SHOWN else ""
    return ", ".join(lines[:SHOWN]) + more


def _leaves_open(now: RunConfig, key: str, given: Any, then: Any) -> bool:
    """Whether a run of `now` could have come to the value `then` of a key by itself."""
    if key == "aggregation.rule":
        return bool(then == DEFAULT) and leaves_rule_open(now)
    if key == "model.device" and given in ("cuda", "mps"):
        return str(then).partition(":")[0] == str(given)
    return bool(given == "auto")


def _keys(table: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    if not isinstance(table, dict):
        yield name, table
        return
    for key, value in table.items():
        yield from _keys(value, f"{name}.{key}" if name else key)
