"""A finished run as a line: nothing lost on the way, no machine named, wrong lines refused by their number."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from fake_run import fake_config, write_fake_run

from fedpeft.config import parse_config
from fedpeft.errors import DataError
from fedpeft.journal import Journal
from fedpeft.report.history import Evaluated, History, RoundRow
from fedpeft.report.record import (
    CurvePoint,
    curve_points,
    once,
    read_records,
    record_of,
    same_settings,
    write_records,
)
from fedpeft.report.summary import summarise


@pytest.fixture
def record(tmp_path):
    with Journal.read(write_fake_run(tmp_path / "demo")) as journal:
        return record_of(journal)


def test_what_a_journal_tells_is_in_its_record(tmp_path):
    with Journal.read(write_fake_run(tmp_path / "demo")) as journal:
        record, result = record_of(journal), summarise(journal)
    assert (record.name, record.seed, record.metric) == ("demo", 7, "accuracy")
    assert record.values["federated"] == result.federated
    assert (record.frame_up, record.adapter_hash) == (result.frame_up, result.adapter_hash)
    assert [item.round for item in record.tests] == sorted(item.round for item in record.tests)
    assert record.tests[0].uplink < record.tests[-1].uplink <= record.frame_up
    assert record.settings["round"]["ask"] == 4


def test_a_run_that_is_not_finished_has_none(tmp_path):
    with Journal.read(write_fake_run(tmp_path / "cut", rounds=2, asked_rounds=9, finished=False)) as journal:
        assert record_of(journal) is None


def test_what_was_spent_is_that_of_the_rounds_until_then():
    history = History()
    history.rounds = [RoundRow(n, 4, 2.5, {"frame_up": 100}, passes=96) for n in (1, 2, 3)]
    history.evaluated = [Evaluated(n, "test", n / 10, 1.0, 50, {"accuracy": n / 10}) for n in (0, 1, 3)]
    spent = [(item.round, item.seconds, item.uplink, item.passes) for item in curve_points(history)]
    assert spent == [(0, 0.0, 0, 0), (1, 2.5, 100, 96), (3, 7.5, 300, 288)]


def test_a_line_brings_back_all_of_it(record, tmp_path):
    path = tmp_path / "runs.jsonl"
    odd = replace(record, seed=8, tests=(CurvePoint(1, 0.1 + 0.2, 3, 4, {"loss": float("inf")}),))
    assert write_records(path, [record, odd]) == 2
    assert len(path.read_text().splitlines()) == 2
    assert read_records(path) == [record, odd]


def test_a_run_again_takes_the_place_of_its_line(record, tmp_path):
    path = tmp_path / "runs.jsonl"
    again = replace(record, adapter_hash="00")
    other = replace(record, seed=8)
    write_records(path, [record, other])
    assert write_records(path, [again]) == 2
    assert read_records(path) == [again, other]
    assert once([record, other, again]) == [again, other]


def test_settings_name_no_machine_and_no_run(tmp_path):
    files = {"source": "csv", "train": "a.csv", "test": "b.csv", "partition": {"name": "iid"}}
    found = []
    for seed, place in enumerate(("here/data", "there/data", "there/others")):
        table = fake_config(place.partition("/")[0]).model_dump(exclude_none=True)
        table["run"]["seed"] = seed
        table["data"] |= files | {"folder": str(tmp_path / place)}
        config = parse_config(table, origin="fake run")
        with Journal.read(write_fake_run(tmp_path / str(seed), config=config)) as journal:
            found.append(record_of(journal))
    assert str(tmp_path) not in json.dumps(dict(found[0].settings))
    here, there, others = map(same_settings, found)
    assert here == there != others


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("{", "line 2: no run that was saved"),
        ("[]", "line 2"),
        ('{"name": "x"}', "seed"),
    ],
)
def test_what_is_no_run_is_refused_with_its_line(record, tmp_path, line, told):
    path = tmp_path / "runs.jsonl"
    write_records(path, [record])
    before = path.read_text() + line + "\n"
    path.write_text(before)
    with pytest.raises(DataError) as caught:
        read_records(path)
    assert "line 2" in str(caught.value)
    assert told in str(caught.value)
    with pytest.raises(DataError):
        write_records(path, [record])
    assert path.read_text() == before, "what is there is left as it is"


def test_a_file_that_cannot_be_read_or_written(record, tmp_path):
    with pytest.raises(DataError, match="cannot be read"):
        read_records(tmp_path)
    with pytest.raises(DataError, match="cannot be written"):
        write_records(tmp_path / "no" / "runs.jsonl", [record])


def test_a_key_of_another_version_is_refused_by_name(record, tmp_path):
    path = tmp_path / "runs.jsonl"
    write_records(path, [record])
    path.write_text(json.dumps({**json.loads(path.read_text()), "colour": "red"}))
    with pytest.raises(DataError, match=r"line 1: .*colour"):
        read_records(path)


def test_a_run_in_the_folder_where_one_stands_has_its_name(tmp_path, monkeypatch):
    monkeypatch.chdir(write_fake_run(tmp_path / "demo"))
    with Journal.read(Path(".")) as journal:
        assert record_of(journal).name == "demo"
