"""The `files` source: data files of any format that has a reader, dealt to the clients.

`csv` is the same source with every file read as CSV, whatever its suffix.
"""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path
from typing import Any

from fedpeft.config import RunConfig
from fedpeft.data.corpus import Corpus
from fedpeft.data.dealing import corpus_of
from fedpeft.data.readers import find_files, read_files
from fedpeft.errors import ConfigError, DataError


def files(config: RunConfig) -> Corpus:
    """Read `data.train` and `data.test`, deal the first to the run's clients.

    Labels are numbered in the sorted order of their raw names, so the order of rows does not matter for them.

    Raises:
        ConfigError: `data.train`, `data.test` or `data.partition` is missing, or a column is not one.
        DataError: a file is missing or malformed, a label of the test file is not in the training file, or a client
            is left with no examples.
        PluginError: the partitioner is not known or does not keep its contract.
    """
    return _read(config, config.data.format)


def csv_files(config: RunConfig) -> Corpus:
    """The same; each file is read as CSV unless `data.format` says otherwise. See `files`."""
    return _read(config, config.data.format or "csv")


def _read(config: RunConfig, format: str | None) -> Corpus:
    data = config.data
    if data.train is None or data.test is None or data.partition is None:
        raise ConfigError(
            f"data.train, data.test and data.partition are needed by the {data.source} source",
            code="config.missing-key",
            remedy="add them to the run file",
        )
    folder = _folder(config)
    _check_apart(data.train, data.test, folder)
    told: dict[str, Any] = {"format": format, "columns": data.columns, "delimiter": data.delimiter}
    train = list(read_files(data.train, folder, **told))
    if isinstance(data.test, float):
        test, tested = None, f"{data.test:.0%} of its rows, set aside"
    else:
        test, tested = list(read_files(data.test, folder, **told)), _shown(data.test)
        tested += ", which clients train on" * (data.test == data.train)
    return corpus_of(config, train, test, origin=(_shown(data.train), tested), folder=folder)


def _check_apart(train: str | list[str], test: str | list[str] | float, folder: Path) -> None:
    """Refuse a file, or a part of one, that is trained on twice, or that a pattern has tested on and trained on.

    Whoever writes one name on both sides, to see whether a model learns at all, is told of it in the description.

    Raises:
        DataError: names it.
    """
    trained = Counter(_parts(train, folder))
    again = next((part for part, times in trained.items() if times > 1), None)
    tested = [] if isinstance(test, float) or test == train else _parts(test, folder)
    both = next((part for part in tested if part in trained), None)
    if again or both:
        path, inside = again or both or ("", ())
        what = "twice in data.train" if again else "in data.train and in data.test"
        raise DataError(
            f"{path}{'#' * bool(inside)}{'/'.join(inside)} is {what}",
            code="data.overlap",
            allowed="each file once: what is tested on, no client trains on",
            remedy="correct the names, or the pattern that has it too; data.test = 0.2 sets a share of the rows aside",
        )


def _parts(names: str | list[str], folder: Path) -> list[tuple[str, tuple[str, ...]]]:
    """(path, keys inside) of everything that names stand for."""
    found = [file for name in ([names] if isinstance(names, str) else names) for file in find_files(name, folder)]
    return [(os.path.realpath(file.path), file.inside) for file in found]


def _folder(config: RunConfig) -> Path:
    named = config.data.folder or os.environ.get("FEDPEFT_DATA")
    if not named:
        raise DataError(
            f"there is no folder to look for {config.data.train} in: neither data.folder nor the environment variable "
            "FEDPEFT_DATA is set",
            code="data.no-folder",
            allowed="the folder that holds the data files",
            remedy="export FEDPEFT_DATA=/path/to/data, or set data.folder in the run file",
        )
    return Path(named).expanduser().resolve()


def _shown(names: object) -> str:
    """File names without their folders, as the corpus' description has them."""
    listed = names if isinstance(names, list) else [names]
    shown = [name if "{" in name else name.rsplit("/", 1)[-1] for name in map(str, listed)]
    return ", ".join(shown[:3]) + (f" and {len(shown) - 3} more" if len(shown) > 3 else "")
