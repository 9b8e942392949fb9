"""The `hub` source: a data set of the Hugging Face hub, or a folder in its layout, through the `datasets` package.

    source = "hub"
    dataset = "fancyzhx/ag_news"      # an id, or a folder; `subset` and `revision` choose within it
    train = "train"                   # splits, also slices: "train[:10%]", or a list of splits
    test = "test"

`pip install fedpeft[datasets]`. What was downloaded once is found in its cache, also offline.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from fedpeft.config import DataTable, RunConfig
from fedpeft.data.corpus import Corpus
from fedpeft.data.dealing import corpus_of, examples_kind
from fedpeft.data.readers.contract import Row
from fedpeft.errors import ConfigError, DataError


def hub(config: RunConfig) -> Corpus:
    """Load `data.dataset`, deal the split `data.train` to the run's clients.

    A label column that names its classes (`ClassLabel`) gives the label names, unless `data.label_names` does.

    Raises:
        ConfigError: `data.dataset`, `data.train`, `data.test` or `data.partition` is missing.
        DataError: `datasets` is not installed, the data set or the split cannot be loaded, a row is malformed, or is
            trained on and tested on.
        PluginError: the partitioner is not known or does not keep its contract.
    """
    data = config.data
    if data.dataset is None or data.train is None or data.test is None:
        raise ConfigError(
            "data.dataset, data.train and data.test are needed by the hub source",
            code="config.missing-key",
            remedy="add them to the run file",
        )
    image = data.image if examples_kind(config) == "image" else None
    train_split = _split(data.train)
    train = _load(data, train_split, image)
    if isinstance(data.test, float):
        test, tested = None, f"{data.test:.0%} of its rows, set aside"
    else:
        test_split = _split(data.test)
        test, tested = list(_rows(data, test_split, _load(data, test_split, image))), f"its split {test_split}"
        tested += ", which clients train on" * (test_split == train_split)
    _check_apart(train_split, data.test, train)
    names = getattr(train.features.get(str(data.label)), "names", None)
    return corpus_of(
        config,
        list(_rows(data, train_split, train)),
        test,
        origin=(f"{Path(data.dataset).name} {train_split}", tested),
        folder=Path(data.folder) if data.folder is not None else None,
        label_names=names,
        numbered=names is not None,
    )


def _split(names: str | list[str]) -> str:
    return names if isinstance(names, str) else "+".join(names)


def _load(data: DataTable, split: str, image: str | int | None) -> Any:
    """One split, its images as bytes or paths."""
    try:
        import datasets
    except ImportError:
        raise DataError(
            'data.source = "hub" needs the package datasets, which is not installed',
            code="data.extra-missing",
            allowed='data.source = "files" without it',
            remedy="pip install 'fedpeft[datasets]'",
        ) from None
    try:
        loaded = datasets.load_dataset(data.dataset, data.subset, split=split, revision=data.revision)
    except (OSError, ValueError, datasets.exceptions.DatasetsError) as error:
        subset = f', subset "{data.subset}"' if data.subset else ""
        raise DataError(
            f'data set "{data.dataset}"{subset}, split "{split}" cannot be loaded: {error}',
            code="data.hub",
            allowed="an id of the Hugging Face hub that this machine can reach or has in its cache, or a folder",
            remedy="correct data.dataset, data.subset and the split; offline, name a folder that holds the files",
        ) from error
    if image is not None and isinstance(loaded.features.get(str(image)), datasets.Image):
        loaded = loaded.cast_column(str(image), datasets.Image(decode=False))
    return loaded


def _check_apart(train: str, test: str | list[str] | float, loaded: Any) -> None:
    """Refuse rows of a split that are trained on twice, or trained on and tested on; one name on both sides is meant.

    Raises:
        DataError: names the split.
    """
    trained = _slices(train, loaded)
    tested = [] if isinstance(test, float) or _split(test) == train else _slices(_split(test), loaded)
    twice = _shared(itertools.combinations(trained, 2))
    both = _shared(itertools.product(trained, tested))
    if twice or both:
        where = "twice in data.train" if twice else "in data.train and in data.test"
        raise DataError(
            f'rows of the split "{twice or both}" are {where}',
            code="data.overlap",
            allowed="each row once: what is tested on, no client trains on",
            remedy='correct the splits, e.g. "train[:90%]" and "train[90%:]"; data.test = 0.2 sets a share aside',
        )


def _slices(split: str, loaded: Any) -> list[Any]:
    """Each part of a split, its `splitname` from row `from_` up to `to`; empty where the data set tells no sizes."""
    import datasets

    sizes = {name: info.num_examples for name, info in (loaded.info.splits or {}).items()}
    try:
        return list(datasets.ReadInstruction.from_spec(split).to_absolute(sizes))
    except (ValueError, KeyError, TypeError, AssertionError):
        return []


def _shared(pairs: Iterable[tuple[Any, Any]]) -> str | None:
    """The split of the first two parts that have a row in common."""
    for one, two in pairs:
        if one.splitname == two.splitname and max(one.from_, two.from_) < min(one.to, two.to):
            return str(one.splitname)
    return None


def _rows(data: DataTable, split: str, loaded: Any) -> Iterator[Row]:
    for number, fields in enumerate(loaded, start=1):
        yield Row(f"{data.dataset} {split}", f"row {number}", fields)
