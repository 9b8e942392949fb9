"""A run file (TOML) -> `RunConfig`: read, overridden, validated, its paths made absolute."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from fedpeft.config.data import FROM_FILES
from fedpeft.config.overrides import apply_smoke, override, parse_override
from fedpeft.config.run_config import RunConfig
from fedpeft.errors import ConfigError
from fedpeft.explain import explain
from fedpeft.registry import split_family


def load_run_file(path: Path, overrides: Sequence[str] | Mapping[str, Any] = (), *, smoke: bool = False) -> RunConfig:
    """Read, override and validate a run file.

    Args:
        path: the TOML file. A relative `data.folder`, `model.source` folder or plug-in path in it is taken relative
            to the file's own folder.
        overrides: `table.key=value` texts, the value in TOML (bare words count as strings), or a mapping.
        smoke: lower what `SMOKE` names, but for what the overrides set.

    Raises:
        ConfigError: the file is missing, is not TOML, or does not validate.
    """
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(
            f"run file {path} does not exist",
            code="config.no-file",
            remedy="name a TOML run file, e.g. one of simulations/*.toml",
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"run file {path} cannot be read: {error}", code="config.no-file", remedy="check the path"
        ) from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(
            f"run file {path} is not valid TOML: {error}",
            code="config.syntax",
            remedy="correct the line that it names",
        ) from error
    pairs = overrides if isinstance(overrides, Mapping) else dict(map(parse_override, overrides))
    for key, value in pairs.items():
        override(table, key, value)
    if smoke:
        apply_smoke(table, untouched=pairs)
    return resolve_paths(parse_config(table, origin=str(path)), path.parent.resolve())


def parse_config(table: Mapping[str, Any], *, origin: str) -> RunConfig:
    """Validate a table of tables.

    Raises:
        ConfigError: naming each wrong key, its value, what is allowed and what to do.
    """
    try:
        return RunConfig.model_validate(dict(table))
    except ValidationError as error:
        raise explain(error, RunConfig, origin) from None


def resolve_paths(config: RunConfig, folder: Path) -> RunConfig:
    """Make relative paths absolute, so that the resolved run file works from anywhere."""
    table = config.model_dump()
    data = table["data"]
    if data["source"] in FROM_FILES or data["folder"] is not None:
        data["folder"] = str(_data_folder(config, folder))
    if data["dataset"] is not None and (folder / Path(data["dataset"]).expanduser()).exists():
        data["dataset"] = str((folder / Path(data["dataset"]).expanduser()).resolve())
    if data["format"] is not None:
        data["format"] = _absolute(data["format"], folder)
    if config.adapter.start is not None:
        table["adapter"]["start"] = str((folder / Path(config.adapter.start).expanduser()).resolve())
    source = config.model.source
    if not source.startswith("package:") and (folder / Path(source).expanduser()).is_dir():
        table["model"]["source"] = str((folder / Path(source).expanduser()).resolve())
    for section, key in (
        ("strategy", "name"),
        ("aggregation", "rule"),
        ("codec", "up"),
        ("codec", "auxiliary"),
        ("codec", "down"),
        ("local", "optimizer"),
        ("zeroth", "pool"),
        ("scheduler", "name"),
        ("adapter", "type"),
        ("model", "source"),
        ("model", "task"),
        ("data", "source"),
    ):
        if table[section] is not None and table[section][key] is not None:
            table[section][key] = _absolute(table[section][key], folder)
    for device in table["devices"]:
        if device["codec"] is not None:
            device["codec"] = _absolute(device["codec"], folder)
    if config.scheduler is not None and config.scheduler.arms.codec is not None:
        table["scheduler"]["arms"]["codec"] = [_absolute(name, folder) for name in config.scheduler.arms.codec]
    if config.scheduler is not None and config.scheduler.name == "fixed":
        arm = table["scheduler"]  # its further keys are an arm, for all or by device class
        for own in (arm, *(arm.get("by_class") or {}).values()):
            if isinstance(own, dict) and isinstance(own.get("codec"), str):
                own["codec"] = _absolute(own["codec"], folder)
    plugins = [table["local"]["schedule"], table["pruning"]["importance"]]
    if table["zeroth"] is not None:
        plugins += [table["zeroth"]["estimator"], table["zeroth"]["optimizer"]]
    for plugin in plugins:
        plugin["name"] = _absolute(plugin["name"], folder)
    table["client"]["mods"] = [_absolute(mod, folder) for mod in table["client"]["mods"]]
    table["report"]["sinks"] = [_absolute(sink, folder) for sink in table["report"]["sinks"]]
    if data["partition"] is not None:
        data["partition"]["name"] = _absolute(data["partition"]["name"], folder)
    return parse_config(table, origin="resolved run file")


def _absolute(plugin: str, folder: Path) -> str:
    """A plug-in's name; a `path/file.py:Class` relative to the run file is made absolute."""
    family, name = split_family("strategy", plugin)
    if ".py:" not in name:
        return plugin
    return (family and f"{family}:") + str((folder / Path(name).expanduser()).resolve())


def _data_folder(config: RunConfig, folder: Path) -> Path:
    named = config.data.folder or os.environ.get("FEDPEFT_DATA")
    if not named:
        raise ConfigError(
            f"data.folder is not set, and neither is the environment variable FEDPEFT_DATA; {config.data.train} was "
            "looked for",
            code="config.no-data-folder",
            allowed="the folder that holds the data files",
            remedy="export FEDPEFT_DATA=/path/to/data, or set data.folder in the run file",
        )
    base = folder if config.data.folder else Path.cwd()
    return (base / Path(named).expanduser()).resolve()
