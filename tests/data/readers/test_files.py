"""File names of a run file: patterns, placeholders, lists, formats."""

import pytest

from fedpeft.data.readers import read_files
from fedpeft.data.readers.files import find_files
from fedpeft.errors import DataError, PluginError


@pytest.fixture
def folder(tmp_path):
    for client in ("ann", "bob"):
        (tmp_path / client).mkdir()
        for split in ("train", "test"):
            (tmp_path / client / f"{split}.csv").write_text(f"text,label\n{client} {split},a\n")
    for number in (10, 2, 1):
        (tmp_path / f"part-{number:02}.jsonl").write_text(f'{{"text": "{number}"}}\n')
    return tmp_path


def texts(rows) -> list[str]:
    return [row.get("text") for row in rows]


def test_one_file_and_a_list(folder):
    assert texts(read_files("part-01.jsonl", folder)) == ["1"]
    assert texts(read_files(["part-10.jsonl", "ann/test.csv"], folder)) == ["10", "ann test"]


def test_a_pattern_is_read_in_the_order_of_the_names(folder):
    assert texts(read_files("part-*.jsonl", folder)) == ["1", "2", "10"]
    assert texts(read_files("part-?1.jsonl", folder)) == ["1"]
    assert texts(read_files("**/t*.csv", folder)) == ["ann test", "ann train", "bob test", "bob train"]


def test_a_placeholder_is_a_column(folder):
    rows = list(read_files("{client}/{split}.csv", folder))
    assert [(row.get("client"), row.get("split")) for row in rows][:3] == [
        ("ann", "test"),
        ("ann", "train"),
        ("bob", "test"),
    ]
    assert [row.get("client") for row in read_files("{client}/train.csv", folder)] == ["ann", "bob"]


def test_a_placeholder_given_twice_is_one_name(folder):
    (folder / "ann" / "ann.csv").write_text("text\nher own\n")
    (folder / "ann" / "bob.csv").write_text("text\nnot hers\n")
    assert texts(read_files("{client}/{client}.csv", folder)) == ["her own"]


def test_a_placeholder_reaches_the_rows_inside_json(folder):
    (folder / "ann" / "all.json").write_text('{"train": [["x"]]}')
    rows = list(read_files("{client}/all.json#train", folder))
    assert [(row.get("0"), row.get("client")) for row in rows] == [("x", "ann")]


def test_a_hash_leads_into_the_file(folder):
    assert find_files("data.json#a/b", folder)[0].inside == ("a", "b")


def test_a_pattern_may_be_absolute_and_lead_out_of_the_folder(folder):
    assert texts(read_files(f"{folder}/part-0*.jsonl", folder / "ann")) == ["1", "2"]
    assert texts(read_files("../{client}/train.csv", folder / "ann")) == ["ann train", "bob train"]
    assert [row.get("client") for row in read_files(f"{folder}/{{client}}/train.csv", folder)] == ["ann", "bob"]


def test_brackets_stand_for_themselves(folder):
    (folder / "a[1]").mkdir()
    (folder / "a[1]" / "x.csv").write_text("text\nthis one\n")
    assert texts(read_files("a[1]/*.csv", folder)) == ["this one"]


@pytest.mark.parametrize(
    ("pattern", "what"),
    [("{0}/x.csv", r'"\{0\}" names no column'), ("a**/x.csv", r'"\*\*" stands beside'), ("**x", r'"\*\*" stands')],
)
def test_a_pattern_that_cannot_be_matched(folder, pattern, what):
    with pytest.raises(DataError, match=what) as caught:
        list(read_files(pattern, folder))
    assert caught.value.code == "data.pattern"


def test_nothing_matches(folder):
    with pytest.raises(DataError, match=r'no file matches "\{client\}/valid\.csv" in') as caught:
        list(read_files("{client}/valid.csv", folder))
    assert caught.value.code == "data.no-file"


def test_the_format_is_that_of_the_suffix_unless_said(folder):
    (folder / "rows.txt").write_text("text\tlabel\nx\ty\n")
    with pytest.raises(DataError, match=r'the suffix "\.txt" does not say what format') as caught:
        list(read_files("rows.txt", folder))
    assert "jsonl" in str(caught.value.remedy)
    assert texts(read_files("rows.txt", folder, format="tsv")) == ["x"]
    with pytest.raises(PluginError, match='reader "tvs" is not known') as plugin:
        list(read_files("rows.txt", folder, format="tvs"))
    assert plugin.value.remedy == 'did you mean "tsv"?'


def test_a_folder_in_place_of_a_file(folder):
    with pytest.raises(DataError, match="cannot be read: Is a directory"):
        list(read_files("ann", folder, format="csv"))


def test_a_missing_file_names_its_neighbours(folder):
    with pytest.raises(DataError, match=r"valid\.csv does not exist; looked in .*ann") as caught:
        list(read_files("ann/valid.csv", folder))
    assert caught.value.allowed == "test.csv, train.csv"
    assert "FEDPEFT_DATA" in str(caught.value.remedy)
