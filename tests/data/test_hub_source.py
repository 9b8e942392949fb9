"""The hub source, with a folder in the hub's layout in place of the hub: splits, class names, images, what is amiss."""

import json
import sys

import numpy as np
import pytest

from fedpeft.config import load_run_file, parse_config
from fedpeft.data import load_corpus
from fedpeft.errors import ConfigError, DataError

datasets = pytest.importorskip("datasets")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    datasets.disable_progress_bars()
    (tmp_path / "set").mkdir()
    for split, count in (("train", 20), ("test", 4)):
        rows = [{"text": f"{split} {i}", "label": ("fine_art", "sport")[i % 2]} for i in range(count)]
        (tmp_path / "set" / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    yield tmp_path / "set"
    datasets.enable_progress_bars()


def corpus_of(dataset, clients: int = 2, task: str | None = None, **data):
    table = {
        "run": {"name": "t", "rounds": 1, "seed": 7},
        "model": {"source": "m", **({"task": task} if task else {})},
        "data": {
            "source": "hub",
            "dataset": str(dataset),
            "train": "train",
            "test": "test",
            "partition": {"name": "iid"},
            "client_test": 0.0,
            **data,
        },
        "devices": [{"name": "phone", "clients": clients}],
        "round": {"ask": 1},
    }
    return load_corpus(parse_config(table, origin="test"))


def test_a_folder_in_the_hubs_layout(folder):
    corpus = corpus_of(folder)
    assert corpus.label_names == ("fine art", "sport")
    assert corpus.test.texts == ("test 0", "test 1", "test 2", "test 3")
    assert [len(data.train) for data in corpus.clients.values()] == [10, 10]
    assert corpus.description == (
        "set train: 20 examples of 2 labels, dealt to 2 clients by iid(); tested on its split test: 4 examples"
    )


def test_slices_lists_and_shares_of_splits(folder):
    assert sum(len(data.train) for data in corpus_of(folder, train="train[:50%]").clients.values()) == 10
    assert sum(len(data.train) for data in corpus_of(folder, train=["train", "test"], test=0.25).clients.values()) == 18
    shared = corpus_of(folder, test=0.25)
    assert (len(shared.test), sum(len(data.train) for data in shared.clients.values())) == (5, 15)


@pytest.mark.parametrize(
    ("train", "test", "where"),
    [
        ("train", "train[:50%]", "in data.train and in data.test"),
        ("train[:60%]", "train[50%:]", "in data.train and in data.test"),
        (["train", "test"], "test", "in data.train and in data.test"),
        (["train", "train[:2]"], "test", "twice in data.train"),
    ],
)
def test_rows_of_a_split_are_on_one_side_only(folder, train, test, where):
    with pytest.raises(DataError) as caught:
        corpus_of(folder, train=train, test=test)
    assert caught.value.code == "data.overlap"
    assert where in caught.value.message


def test_one_split_on_both_sides_is_meant_and_told(folder):
    assert "its split train, which clients train on: 20" in corpus_of(folder, test="train").description
    assert len(corpus_of(folder, train="train[:90%]", test="train[90%:]").test) == 2


def test_class_labels_are_numbers_though_their_names_are_too(tmp_path, folder):
    features = datasets.Features(
        {"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["1", "2", "3"])}
    )
    (tmp_path / "stars").mkdir()
    saved(tmp_path / "stars", {"text": ["a", "b", "c"], "label": [1, 2, 1]}, features)
    assert corpus_of(tmp_path / "stars", 1).test.labels.tolist() == [1, 2, 1]


def saved(folder, table: dict, features) -> None:
    """A data set as Parquet, the way the hub keeps it: the features travel with it."""
    for split in ("train", "test"):
        datasets.Dataset.from_dict(table, features=features).to_parquet(folder / f"{split}.parquet")


def test_class_labels_bring_their_names(tmp_path, folder):
    features = datasets.Features(
        {"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["world", "sci_tech", "never_seen"])}
    )
    (tmp_path / "classes").mkdir()
    saved(tmp_path / "classes", {"text": ["a", "b", "c"], "label": [1, 0, 1]}, features)
    corpus = corpus_of(tmp_path / "classes", 1)
    assert corpus.label_names == ("world", "sci tech", "never seen")
    assert corpus.test.labels.tolist() == [1, 0, 1]


def test_images_are_decoded_once(tmp_path, folder):
    pytest.importorskip("PIL")
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=["cat", "dog"])})
    pixels = np.full((3, 4, 3), 7, dtype=np.uint8)
    (tmp_path / "pets").mkdir()
    saved(tmp_path / "pets", {"image": [pixels, pixels], "label": [0, 1]}, features)
    task = tmp_path / "task.py"
    task.write_text('class Images:\n    examples = "image"\n')
    corpus = corpus_of(tmp_path / "pets", 1, task=f"{task}:Images")
    assert np.array_equal(corpus.test.images[0], pixels)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"train": "trian"}, 'split "trian" cannot be loaded: Unknown split'),
        ({"dataset": "somebody/nothing"}, 'data set "somebody/nothing", split "train" cannot be loaded'),
        ({"subset": "xx"}, 'subset "xx", split "train" cannot be loaded'),
        ({"text": "txet"}, 'set train, row 1: there is no column "txet"'),
    ],
)
def test_what_can_be_wrong(folder, changes, message):
    with pytest.raises(DataError, match=message):
        corpus_of(changes.pop("dataset", folder), **changes)


def test_without_the_package_the_extra_is_named(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(DataError, match="needs the package datasets") as caught:
        corpus_of(folder)
    assert caught.value.remedy == "pip install 'fedpeft[datasets]'"


def test_the_run_file_names_the_data_set():
    table = {
        "run": {"name": "t", "rounds": 1},
        "model": {"source": "m"},
        "data": {"source": "hub", "train": "train", "test": "test", "partition": {"name": "iid"}},
        "devices": [{"name": "phone", "clients": 1}],
        "round": {"ask": 1},
    }
    with pytest.raises(ConfigError, match=r"data\.dataset is missing") as caught:
        parse_config(table, origin="test")
    assert caught.value.remedy == "add data.dataset"


def test_a_folder_beside_a_data_set_is_that_of_the_run_file(tmp_path):
    """Maps and images are looked for in it, from wherever the run is started."""
    (tmp_path / "run.toml").write_text(
        '[run]\nname = "t"\nrounds = 1\n[model]\nsource = "m"\n[round]\nask = 1\n'
        '[[devices]]\nname = "phone"\nclients = 2\n'
        '[data]\nsource = "hub"\ndataset = "org/set"\nfolder = "beside"\ntrain = "train"\ntest = "test"\n'
        'partition = { name = "iid" }\n'
    )
    assert load_run_file(tmp_path / "run.toml").data.folder == str(tmp_path / "beside")
