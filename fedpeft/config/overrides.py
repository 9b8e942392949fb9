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
    "pruning.start": 2,  # in the last round clients are pruned, and by all of their ratio
    "pruning.ramp": 1,
}
"""`--smoke`: any run file in a few seconds, to see that it works; its figures mean nothing. What the file keeps lower
stays lower."""

_AS_THEY_ARE = ("pruning",)
"""Tables of which only keys that are there are lowered: their defaults are no larger."""

_KEY = r"[A-Za-z_][\w-]*(\.[\w-]+)*\.[A-Za-z_][\w-]*"
_WHOLE = rf"{_KEY}|[A-Za-z_][\w-]*"  # of a value that is a table or a list


def parse_override(text: str) -> tuple[str, Any]:
    """`table.key=value` -> the key and its value; `table={ ... }` and `devices=[...]` replace all of it.

    Raises:
        ConfigError: the text is not of that form.

    >>> parse_override("devices.old-phone.rank=2")
    ('devices.old-phone.rank', 2)
    >>> parse_override('strategy={ name = "fedprox", mu = 0.1 }')
    ('strategy', {'name': 'fedprox', 'mu': 0.1})
    """
    key, separator, value = text.partition("=")
    try:
        parsed = tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        parsed = value.strip()
    key, whole = key.strip(), isinstance(parsed, dict | list)
    if not separator or not re.fullmatch(_WHOLE if whole else _KEY, key):
        raise ConfigError(
            f'override "{text}" is not of the form table.key=value',
            code="config.override",
            allowed="e.g. run.rounds=3, strategy.name=fedprox, devices.NAME.rank=2 with the name of a device class",
            remedy="write it so",
        )
    return key, parsed


def apply_smoke(table: dict[str, Any], untouched: Collection[str] = ()) -> None:
    """Lower what `SMOKE` names in a run file's table, in place, but for the keys in `untouched`."""
    for key, value in SMOKE.items():
        section, _, last = key.partition(".")
        if section in _AS_THEY_ARE and (not isinstance(table.get(section), dict) or last not in table[section]):
            continue
        keys = table.setdefault(section, {})
        if not isinstance(keys, dict) or key in untouched:  # if it is no table, validation says so
            continue
        if last == "clients_fraction" and keys.get("clients") is False:
            continue  # there is nothing to take a part of
        own = keys.get(last)
        if section in untouched and own is not None:
            continue
        keys[last] = min(own, value) if isinstance(own, int | float) and own > 0 else value
    local = table.get("local")
    if isinstance(local, dict) and isinstance(local.get("accumulate"), int) and "local.accumulate" not in untouched:
        most = local.get("batch_size")  # lowered above
        local["accumulate"] = min(local["accumulate"], most if isinstance(most, int) and most > 0 else 1)
    devices = table.get("devices")
    for device in devices if isinstance(devices, list) else ():
        if isinstance(device, dict) and "steps" in device and f"devices.{device.get('name')}.steps" not in untouched:
            device["steps"] = SMOKE["local.steps"]


def override(table: dict[str, Any], key: str, value: Any) -> None:
    """Set one key in a run file\'s table, in place; tables on its way are made. In a list of tables one has a name.

    Raises:
        ConfigError: a key on its way is no table, or no table of a list has that name.
    """
    *parents, last = key.split(".")
    inside: Any = table
    for place, parent in enumerate(parents):
        if isinstance(inside, list):
            inside = _one_named(inside, parent, parents[place - 1], key)
        else:
            inside = inside.setdefault(parent, {})
        if not isinstance(inside, dict | list):
            raise ConfigError(
                f"override {key}={value!r}: {parent} is not a table",
                code="config.override",
                remedy="override a key of a table",
            )
    if isinstance(inside, list):
        raise _list_of_tables(inside, parents[-1], f"override {key}={value!r}: {parents[-1]} is a list of tables")
    inside[last] = value


def _one_named(tables: list[Any], name: str, of: str, key: str) -> dict[str, Any]:
    """The table of that name."""
    for table in tables:
        if isinstance(table, dict) and table.get("name") == name:
            return table
    raise _list_of_tables(tables, of, f'override {key}: no table of {of} has the name "{name}"')


def _list_of_tables(tables: list[Any], of: str, message: str) -> ConfigError:
    names = [str(table["name"]) for table in tables if isinstance(table, dict) and "name" in table]
    return ConfigError(
        message,
        code="config.override",
        allowed=", ".join(f"{of}.{name}.KEY=VALUE" for name in names) or f"all of it: {of}=[{{ ... }}]",
        remedy="name one of them, or change the run file" if names else "write it so, or change the run file",
    )
