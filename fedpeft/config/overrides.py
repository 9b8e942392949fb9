"""What the command line sets on top of a run file: `--set table.key=value`, `--smoke`."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Collection
from typing import Any

from fedpeft.errors import ConfigError

SMOKE: dict[str, Any] = {
    "run.rounds": 2,
    "local.steps": 1,
    "local.batch_size": 8,
    "round.ask": 3,
    "round.over_select": 0,
    "round.min_replies": 1,
    "data.client_examples": 16,
    "model.max_length": 64,
    "evaluation.test_examples": 200,
    "evaluation.examples": 64,
    "evaluation.clients_fraction": 0.02,
}
"""`--smoke`: any run file in a few seconds, to see that it works; its figures mean nothing. What the file keeps lower
stays lower."""


def parse_override(text: str) -> tuple[str, Any]:
    """`table.key=value` -> the key and its value.

    Raises:
        ConfigError: the text is not of that form.
    """
    key, separator, value = text.partition("=")
    if not separator or not re.fullmatch(r"[A-Za-z_][\w-]*(\.[A-Za-z_][\w-]*)+", key.strip()):
        raise ConfigError(
            f'override "{text}" is not of the form table.key=value',
            code="config.override",
            allowed="e.g. run.rounds=3, strategy.name=fedprox",
            remedy="write it so",
        )
    try:
        parsed = tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        parsed = value.strip()
    return key.strip(), parsed


def apply_smoke(table: dict[str, Any], untouched: Collection[str] = ()) -> None:
    """Lower what `SMOKE` names in a run file's table, in place, but for the keys in `untouched`."""
    for key, value in SMOKE.items():
        section, _, last = key.partition(".")
        keys = table.setdefault(section, {})
        if not isinstance(keys, dict) or key in untouched:  # if it is no table, validation says so
            continue
        if last == "clients_fraction" and keys.get("clients") is False:
            continue  # there is nothing to take a part of
        own = keys.get(last)
        keys[last] = min(own, value) if isinstance(own, int | float) and own > 0 else value
    devices = table.get("devices")
    for device in devices if isinstance(devices, list) else ():
        if isinstance(device, dict) and "steps" in device:
            device["steps"] = SMOKE["local.steps"]


def override(table: dict[str, Any], key: str, value: Any) -> None:
    """Set one key in a run file\'s table, in place; tables on its way are made.

    Raises:
        ConfigError: a key on its way is no table.
    """
    *parents, last = key.split(".")
    for parent in parents:
        table = table.setdefault(parent, {})
        if not isinstance(table, dict):
            raise ConfigError(
                f"override {key}={value!r}: {parent} is not a table",
                code="config.override",
                remedy="override a key of a table",
            )
    table[last] = value
