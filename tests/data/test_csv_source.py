"""The csv source: what it reads, and the one clear error for each thing that can be wrong with a file."""

import os
from pathlib import Path

import numpy as np
import pytest

from fedpeft.config import parse_config
from fedpeft.data import load_corpus
from fedpeft.data.csv import csv_source, read_rows
from fedpeft.errors import ConfigError, DataError, PluginError

TRAIN = "text,label\n" + "".join(f"text {index},{('card_arrival', 'lost_card')[index % 2]}\n" for index in range(40))
TEST = "text,label\nwhere is it,card_arrival\ngone,lost_card\n"


def config_of(folder: Path | None, clients: int = 4, **data):
    table = {
        "run": {"name": "t", "rounds": 1, "seed": 7},
        "model": {"source": "m"},
        "data": {"source": "csv", "train": "train.csv", "test": "test.csv", "partition": {"name": "iid"}, **data},
        "devices": [{"name": "phone", "clients": clients}],
        "round": {"ask": 1},
    }
    if folder is not None:
        table["data"]["folder"] = str(folder)
    return parse_config(table, origin="test")


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "train.csv").write_text(TRAIN, encoding="utf-8")
    (tmp_path / "test.csv").write_text(TEST, encoding="utf-8")
    return tmp_path


def rows_of(tmp_path: Path, content: str | bytes, text: str = "text", label: str = "label"):
    path = tmp_path / "some.csv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return read_rows(path, text=text, label=label)


def test_the_corpus_of_two_files(folder):
    corpus = load_corpus(config_of(folder))
    assert corpus.label_names == ("card arrival", "lost card")
    assert corpus.test.texts == ("where is it", "gone")
    assert corpus.test.labels.tolist() == [0, 1]
    assert list(corpus.clients) == ["c00", "c01", "c02", "c03"]
    assert [(len(data.train), len(data.test)) for data in corpus.clients.values()] == [(9, 1)] * 4
    dealt = [text for data in corpus.clients.values() for split in (data.train, data.test) for text in split.texts]
    assert sorted(dealt) == sorted(f"text {index}" for index in range(40))
    for data in corpus.clients.values():
        assert [int(text.split()[1]) % 2 for text in data.train.texts] == data.train.labels.tolist()
    assert corpus.description == (
        "train.csv: 40 examples of 2 labels, dealt to 4 clients by iid(); tested on test.csv: 2 examples"
    )


def test_clients_keep_what_client_test_says(folder):
    assert all(len(data.test) == 0 for data in load_corpus(config_of(folder, client_test=0.0)).clients.values())
    assert all(len(data.test) == 5 for data in load_corpus(config_of(folder, client_test=0.5)).clients.values())


def test_byte_order_mark_quoted_line_ends_and_blank_lines(tmp_path):
    content = b'\xef\xbb\xbfid,label,text\r\n1, a ,"one,\r\n ""two"""\r\n\r\n2,b,caf\xc3\xa9\r\n'
    rows = rows_of(tmp_path, content)
    assert [(row.line, row.text, row.label) for row in rows] == [(2, 'one,\r\n "two"', "a"), (5, "café", "b")]


@pytest.mark.parametrize(
    ("content", "message", "code"),
    [
        ("text,label\nfine,a\n  ,b\n", r'some\.csv, line 3: column "text" is empty', "data.empty-field"),
        ('text,label\n"two\nlines",a\nfine,\n', r'some\.csv, line 4: column "label" is empty', "data.empty-field"),
        ("text,label\n", r"some\.csv: there are no rows below the header", "data.no-rows"),
        ("", r'some\.csv, line 1: the header has no column "text"', "data.no-column"),
        ("txt,label\nx,a\n", r'(?s)header has no column "text".*allowed: txt, label.*mean "txt"', "data.no-column"),
        ("text,text,label\nx,y,a\n", r'has more than one column "text"', "data.no-column"),
        ("text,label\nx,a\none,two,a\n", r"line 3: 3 fields, but the header has 2", "data.csv-fields"),
        ("text,label\nx\n", r"line 2: 1 fields, but the header has 2", "data.csv-fields"),
        ('text,label\nx,a\n"never closed,a\n\n', r"line 3: not valid CSV", "data.csv-syntax"),
        (b"text,label\nx,a\ncaf\xe9,b\n", r"line 3: byte 0xe9 is not UTF-8", "data.encoding"),
    ],
)
def test_what_can_be_wrong_with_a_file(tmp_path, content, message, code):
    with pytest.raises(DataError, match=message) as caught:
        rows_of(tmp_path, content)
    assert caught.value.code == code


def test_a_missing_file_says_where_it_was_looked_for(folder):
    with pytest.raises(DataError, match=r"missing\.csv does not exist; looked in") as caught:
        load_corpus(config_of(folder, train="missing.csv"))
    assert str(folder) in str(caught.value)
    assert caught.value.allowed == "test.csv, train.csv"
    assert "FEDPEFT_DATA" in str(caught.value.remedy)


def test_a_folder_in_place_of_a_file(folder):
    (folder / "sub.csv").mkdir()
    with pytest.raises(DataError, match=r"sub\.csv cannot be read: Is a directory"):
        load_corpus(config_of(folder, train="sub.csv"))


def test_the_folder_may_come_from_the_environment(folder, monkeypatch):
    monkeypatch.setenv("FEDPEFT_DATA", str(folder))
    assert len(load_corpus(config_of(None)).test) == 2
    monkeypatch.delenv("FEDPEFT_DATA")
    with pytest.raises(DataError, match=r"no folder to look for train\.csv in") as caught:
        load_corpus(config_of(None))
    assert caught.value.code == "data.no-folder"


def test_a_label_that_only_the_test_file_has(folder):
    (folder / "test.csv").write_text(TEST + "new,lost_cart\nagain,lost_cart\n")
    with pytest.raises(DataError, match=r'test\.csv, line 4: label "lost_cart" is in no row of') as caught:
        load_corpus(config_of(folder))
    assert caught.value.remedy == 'did you mean "lost_card"?'


def test_labels_that_read_the_same(folder):
    (folder / "train.csv").write_text(TRAIN + "x,lostCard\n")
    with pytest.raises(DataError, match='"lostCard" and "lost_card" both read "lost card"'):
        load_corpus(config_of(folder))


def test_too_many_clients(folder):
    with pytest.raises(DataError, match="client c40 is left with no examples"):
        load_corpus(config_of(folder, clients=41))


def test_what_the_run_file_needs_for_csv():
    table = {
        "run": {"name": "t", "rounds": 1},
        "model": {"source": "m"},
        "data": {"source": "csv.py:csv_source", "train": "train.csv"},
        "devices": [{"name": "phone", "clients": 2}],
        "round": {"ask": 1},
    }
    with pytest.raises(ConfigError, match=r"data\.train, data\.test and data\.partition are needed"):
        csv_source(parse_config(table, origin="test"))


def test_an_unknown_partitioner(folder):
    with pytest.raises(PluginError, match='partitioner "dirichlett" is not known'):
        load_corpus(config_of(folder, partition={"name": "dirichlett"}))


def real_data() -> Path:
    named = os.environ.get("FEDPEFT_DATA")
    folder = Path(named) if named else Path(__file__).parents[3] / "shared" / "data"
    if not (folder / "banking77").is_dir():
        pytest.skip(f"no banking77 folder in {folder}: set FEDPEFT_DATA to the folder that holds it")
    return folder


def test_banking77():
    corpus = load_corpus(
        config_of(
            real_data(),
            clients=50,
            train="banking77/banking77_train.csv",
            test="banking77/banking77_test.csv",
            label="category",
            partition={"name": "dirichlet", "alpha": 0.5},
        )
    )
    assert len(corpus.label_names) == 77
    assert "card arrival" in corpus.label_names
    assert len(corpus.test) == 3080
    assert sum(len(data.train) + len(data.test) for data in corpus.clients.values()) == 10_003
    assert set(np.unique(corpus.test.labels)) == set(range(77))
