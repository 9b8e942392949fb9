"""The `hub` source: a data set of the Hugging Face hub, or a folder in its layout, through the `datasets` package.

    source = "hub"
    dataset = "fancyzhx/ag_news"      # an id, or a folder; `subset` and `revision` choose within it
    train = "train"                   # splits, also slices: "train[:10%]", or a list of splits
    test = "test"

`pip install fedpeft[datasets]`. What was downloaded once is found in its cache, also offline.
"""

from __future__ import annotations

from collections.abc import Iterator
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
        DataError: `datasets` is not installed, the data set or the split cannot be loaded, or a row is malformed.
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
    return corpus_of(
        config,
        list(_rows(data, train_split, train)),
        test,
        origin=(f"{Path(data.dataset).name} {train_split}", tested),
        folder=Path(data.folder) if data.folder is not None else None,
        label_names=getattr(train.features.get(str(data.label)), "names", None),
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


def _rows(data: DataTable, split: str, loaded: Any) -> Iterator[Row]:
    for number, fields in enumerate(loaded, start=1):
        yield Row(f"{data.dataset} {split}", f"row {number}", fields)
