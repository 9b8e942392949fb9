"""The files source: the one clear error for each thing amiss."""

import pytest
from tiny_files import TEST, TRAIN, config_of, write_files, write_lines

from fedpeft.config import parse_config
from fedpeft.data import load_corpus
from fedpeft.data.files import csv_files
from fedpeft.errors import ConfigError, DataError, PluginError


@pytest.fixture
def folder(tmp_path):
    return write_files(tmp_path)


def test_a_source_without_what_the_task_reads(folder):
    config = parse_config(
        {
            "run": {"name": "t", "rounds": 1},
            "model": {"source": "m", "task": f"{folder}/tasks.py:Images"},
            "devices": [{"name": "phone", "clients": 2}],
            "round": {"ask": 1},
        },
        origin="test",
    )
    with pytest.raises(PluginError, match='reads image examples, and source "assistant" has TextExamples'):
        load_corpus(config)


@pytest.mark.parametrize(
    ("content", "message", "code"),
    [
        ("text,label\nfine,a\n  ,b\n", r'train\.csv, line 3: column "text" is empty', "data.empty-field"),
        ('text,label\n"two\nlines",a\nfine,\n', r'train\.csv, line 4: column "label" is empty', "data.empty-field"),
        ("text,label\n", r"train\.csv: there are no rows", "data.no-rows"),
        ("", r"train\.csv: there are no rows", "data.no-rows"),
        ("txt,label\nx,a\n", r'(?s)line 2: there is no column "text".*allowed: txt, label', "data.no-column"),
    ],
)
def test_what_can_be_wrong_with_the_rows(folder, content, message, code):
    (folder / "train.csv").write_text(content)
    with pytest.raises(DataError, match=message) as caught:
        load_corpus(config_of(folder, 1, test="train.csv"))
    assert caught.value.code == code


def test_a_missing_column_is_corrected(folder):
    with pytest.raises(DataError, match='there is no column "txet"') as caught:
        load_corpus(config_of(folder, text="txet"))
    assert caught.value.remedy == 'did you mean "text"?'


def test_a_list_within_braces(folder):
    write_lines(folder / "rows.jsonl", [{"text": ["a", "b"], "label": "x"}])
    with pytest.raises(DataError, match=r'line 1: column "text" is a list'):
        load_corpus(config_of(folder, 1, train="rows.jsonl", test="rows.jsonl", text="{text}"))


def test_a_group_that_is_no_number_is_a_name(folder):
    (folder / "train.csv").write_text("text,label,who\n" + "a,x,--5\nb,x,3\n" * 4)
    partition = {"name": "natural-id", "partition_by": "who"}
    assert len(load_corpus(config_of(folder, 2, test="train.csv", partition=partition)).clients) == 2


@pytest.mark.parametrize("column", ["{", "{}", "{text!r}", "{text:>3}", "a } b {text}"])
def test_braces_that_hold_no_column(folder, column):
    with pytest.raises(ConfigError, match=r"data\.text = ") as caught:
        load_corpus(config_of(folder, text=column))
    assert caught.value.code == "config.column"


def test_a_column_that_is_no_text(folder):
    write_lines(folder / "rows.jsonl", [{"text": ["x"], "label": "a"}])
    with pytest.raises(DataError, match=r'rows\.jsonl, line 1: column "text" is a list'):
        load_corpus(config_of(folder, 1, train="rows.jsonl", test="rows.jsonl"))


def test_a_missing_file_says_where_it_was_looked_for(folder):
    with pytest.raises(DataError, match=r"missing\.csv does not exist; looked in") as caught:
        load_corpus(config_of(folder, train="missing.csv"))
    assert str(folder) in str(caught.value)
    assert caught.value.allowed == "tasks.py, test.csv, train.csv"
    assert "FEDPEFT_DATA" in str(caught.value.remedy)


def test_a_missing_folder_is_named_itself(folder):
    with pytest.raises(DataError, match=r"train\.csv does not exist: there is no folder \S+/nope, and so no") as caught:
        load_corpus(config_of(folder / "nope", train="banking77/train.csv"))
    assert f"no folder {folder / 'nope'}, " in caught.value.message
    with pytest.raises(DataError, match=r'matches "\*\.csv": there is no folder \S+/nope\n'):
        load_corpus(config_of(folder / "nope", train="*.csv"))


def test_another_separator_is_told_or_named(folder):
    for name in ("train.csv", "test.csv"):
        (folder / name).write_text((TRAIN if name == "train.csv" else TEST).replace(",", ";"), encoding="utf-8")
    with pytest.raises(DataError, match=r"train\.csv, line 1: the header has one column, 'text;label'") as caught:
        load_corpus(config_of(folder))
    assert 'set data.delimiter = ";"' in caught.value.remedy
    assert len(load_corpus(config_of(folder, delimiter=";")).test) == 2
    with pytest.raises(DataError, match='there is no column "label"'):  # it is one column, as the run file says
        load_corpus(config_of(folder, delimiter=","))


@pytest.mark.parametrize("delimiter", ["", ";;", '"', "\n"])
def test_a_separator_that_is_none(delimiter):
    with pytest.raises(ConfigError, match=r"data\.delimiter = ") as caught:
        config_of(None, delimiter=delimiter)
    assert caught.value.allowed == "one character, not a quote"


def test_the_folder_may_come_from_the_environment(folder, monkeypatch):
    monkeypatch.setenv("FEDPEFT_DATA", str(folder))
    assert len(load_corpus(config_of(None)).test) == 2
    monkeypatch.delenv("FEDPEFT_DATA")
    with pytest.raises(DataError, match=r"no folder to look for train\.csv in") as caught:
        load_corpus(config_of(None))
    assert caught.value.code == "data.no-folder"


def test_a_label_that_only_the_test_file_has(folder):
    (folder / "test.csv").write_text(TEST + "new,lost_cart\nagain,lost_cart\n")
    with pytest.raises(DataError, match=r'test\.csv, line 4: label "lost_cart" is not in any row of') as caught:
        load_corpus(config_of(folder))
    assert caught.value.remedy == 'did you mean "lost_card"?'


def test_labels_that_read_the_same(folder):
    (folder / "train.csv").write_text(TRAIN + "x,lostCard\n")
    with pytest.raises(DataError, match='"lostCard" and "lost_card" both read "lost card"'):
        load_corpus(config_of(folder))


def test_too_many_clients(folder):
    with pytest.raises(DataError, match="client c40 is left with no examples"):
        load_corpus(config_of(folder, clients=41))


def test_what_a_source_of_ones_own_must_still_say():
    table = {
        "run": {"name": "t", "rounds": 1},
        "model": {"source": "m"},
        "data": {"source": "files.py:csv_files", "train": "train.csv"},
        "devices": [{"name": "phone", "clients": 2}],
        "round": {"ask": 1},
    }
    with pytest.raises(ConfigError, match=r"data\.train, data\.test and data\.partition are needed"):
        csv_files(parse_config(table, origin="test"))


def test_an_unknown_partitioner(folder):
    with pytest.raises(PluginError, match='partitioner "dirichlett" is not known'):
        load_corpus(config_of(folder, partition={"name": "dirichlett"}))
