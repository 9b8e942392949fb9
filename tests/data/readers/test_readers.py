"""Each format: what its reader makes of a file, and the one clear error for each thing that can be wrong with it."""

import doctest
import gzip
import json
import lzma
import sys

import pytest
import zstandard

import fedpeft.data.readers.contract
from fedpeft.data.readers import DataFile, read_files
from fedpeft.data.readers.csv import read_csv, read_tsv
from fedpeft.data.readers.image import read_image
from fedpeft.data.readers.json import read_json, read_jsonl
from fedpeft.data.readers.parquet import read_parquet
from fedpeft.errors import DataError


def file_of(tmp_path, content: str | bytes, name: str = "some.csv", **more) -> DataFile:
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return DataFile(path, **more)


def found(rows) -> list[tuple[str, dict]]:
    return [(row.place, {name: row.get(name) for name in row.columns}) for row in rows]


def test_csv_with_byte_order_mark_quoted_line_ends_and_blank_lines(tmp_path):
    content = b'\xef\xbb\xbfid,label,text\r\n1, a ,"one,\r\n ""two"""\r\n\r\n2,b,caf\xc3\xa9\r\n'
    assert found(read_csv(file_of(tmp_path, content))) == [
        ("line 2", {"id": "1", "label": " a ", "text": 'one,\r\n "two"'}),
        ("line 5", {"id": "2", "label": "b", "text": "café"}),
    ]


def test_csv_without_a_header(tmp_path):
    rows = found(read_csv(file_of(tmp_path, "3,Wall St\n1,Oil\n", columns=("label", "text"))))
    assert rows == [("line 1", {"label": "3", "text": "Wall St"}), ("line 2", {"label": "1", "text": "Oil"})]


def test_csv_with_a_field_longer_than_pythons_default_limit(tmp_path):
    assert len(found(read_csv(file_of(tmp_path, "text\n" + "x" * 200_000 + "\n")))[0][1]["text"]) == 200_000


def test_tsv(tmp_path):
    rows = found(read_tsv(file_of(tmp_path, "text\tlabel\none, two\ta\n", "some.tsv")))
    assert rows == [("line 2", {"text": "one, two", "label": "a"})]


def test_json_list_of_objects_and_of_lists(tmp_path):
    rows = found(read_json(file_of(tmp_path, '[{"text": "x"}, ["y", 1]]', "some.json")))
    assert rows == [("item 1", {"text": "x"}), ("item 2", {"0": "y", "1": 1})]


def test_json_list_inside_an_object_brings_the_other_keys(tmp_path):
    content = json.dumps({"lang": "en", "data": {"train": [["y", 1]], "test": []}})
    rows = found(read_json(file_of(tmp_path, content, "some.json", inside=("data", "train"))))
    assert rows == [("item 1 of data/train", {"0": "y", "1": 1, "lang": "en", "test": []})]


def test_jsonl(tmp_path):
    rows = found(read_jsonl(file_of(tmp_path, '{"a": 1}\n\n["b"]\n', "some.jsonl")))
    assert rows == [("line 1", {"a": 1}), ("line 3", {"0": "b"})]


def test_jsonl_with_a_client_a_line(tmp_path):
    lines = [{"client": 7, "train": [["x", 0], ["y", 1]]}, {"client": 9, "train": [["z", 0]]}]
    content = "".join(json.dumps(line) + "\n" for line in lines)
    rows = found(read_jsonl(file_of(tmp_path, content, "some.jsonl", inside=("train",))))
    assert rows == [
        ("line 1, item 1 of train", {"0": "x", "1": 0, "client": 7}),
        ("line 1, item 2 of train", {"0": "y", "1": 1, "client": 7}),
        ("line 2, item 1 of train", {"0": "z", "1": 0, "client": 9}),
    ]


def test_an_own_field_goes_before_a_shared_one(tmp_path):
    content = '{"label": "outer", "rows": [{"label": "inner"}]}'
    assert found(read_json(file_of(tmp_path, content, "a.json", inside=("rows",))))[0][1] == {"label": "inner"}


def test_parquet(tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    parquet.write_table(pyarrow.table({"text": ["a", "b"], "n": [1, 2]}), tmp_path / "x.parquet")
    rows = found(read_parquet(DataFile(tmp_path / "x.parquet")))
    assert rows == [("row 1", {"text": "a", "n": 1}), ("row 2", {"text": "b", "n": 2})]
    with pytest.raises(DataError, match="not a whole Parquet file"):
        found(read_parquet(file_of(tmp_path, b"PAR1 and no more", "broken.parquet")))
    with pytest.raises(DataError, match=r"none\.parquet does not exist"):
        found(read_parquet(DataFile(tmp_path / "none.parquet")))


def test_parquet_without_pyarrow_names_the_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(DataError, match="needs the package pyarrow") as caught:
        found(read_parquet(DataFile(tmp_path / "x.parquet")))
    assert caught.value.remedy == "pip install 'fedpeft[parquet]'"


def test_an_image_file_is_a_row(tmp_path):
    file = file_of(tmp_path, b"any", "cat.png", fields={"label": "cat"})
    assert found(read_image(file)) == [("the image", {"image": str(tmp_path / "cat.png"), "label": "cat"})]


@pytest.mark.parametrize(
    ("suffix", "compress"),
    [(".gz", gzip.compress), (".xz", lzma.compress), (".zst", zstandard.compress)],
)
def test_compressed_files(tmp_path, suffix, compress):
    content = b"text,label\n" + b"one,a\n" * 5000
    whole = compress(content)
    (tmp_path / f"rows.csv{suffix}").write_bytes(whole)
    rows = list(read_files(f"rows.csv{suffix}", tmp_path))
    assert len(rows) == 5000
    assert (rows[-1].place, rows[-1].get("text")) == ("line 5001", "one")
    for broken in (whole[: len(whole) // 2], content):
        (tmp_path / f"broken.csv{suffix}").write_bytes(broken)
        with pytest.raises(DataError, match=rf"broken\.csv\{suffix}: not a whole \{suffix} file"):
            list(read_files(f"broken.csv{suffix}", tmp_path))


@pytest.mark.parametrize(
    ("reader", "content", "message", "code"),
    [
        (read_csv, "text,text,label\nx,y,a\n", 'line 1: the header has more than one column "text"', "data.no-column"),
        (read_csv, "text,label\nx,a\none,two,a\n", r"line 3: 3 fields, but there are 2 columns", "data.csv-fields"),
        (read_csv, "text,label\nx\n", r"line 2: 1 fields, but there are 2 columns", "data.csv-fields"),
        (read_csv, 'text,label\nx,a\n"never closed,a\n\n', r"line 3: not valid CSV", "data.csv-syntax"),
        (read_csv, b"text,label\nx,a\ncaf\xe9,b\n", r"line 3: byte 0xe9 is not UTF-8", "data.encoding"),
        (read_json, '{"a": [1,\n 2,,]}', "line 2, column 4: not valid JSON", "data.json-syntax"),
        (read_json, '{"train": [], "n": 1}', "an object stands where the list of rows should be", "data.json-list"),
        (read_json, '"text"', "a text stands where the list of rows should be", "data.json-list"),
        (read_json, "[1]", "item 1: a row is a number", "data.json-row"),
        (read_json, "[null]", "item 1: a row is null", "data.json-row"),
        (read_jsonl, '{"a": 1}\n{"a": \n', "line 2, column 6: not valid JSON", "data.json-syntax"),
        (read_jsonl, '{"a": 1}\n"text"\n', "line 2: a row is a text", "data.json-row"),
    ],
)
def test_what_can_be_wrong_with_a_file(tmp_path, reader, content, message, code):
    with pytest.raises(DataError, match=message) as caught:
        list(reader(file_of(tmp_path, content)))
    assert caught.value.code == code
    assert "some.csv" in caught.value.message


def test_json_beyond_all_bounds(tmp_path):
    with pytest.raises(DataError, match=r"big\.jsonl, in the document from line 2 on") as caught:
        found(read_jsonl(file_of(tmp_path, '{"a": 1}\n{"a": ' + "1" * 5000 + "}\n", "big.jsonl")))
    assert caught.value.code == "data.json-syntax"
    with pytest.raises(DataError, match=r"deep\.json, in the document"):
        found(read_json(file_of(tmp_path, "[" * 200_000, "deep.json")))


def test_a_key_that_does_not_lead_to_a_list(tmp_path):
    file = file_of(tmp_path, '{"train": [], "info": {"n": 1}}', "a.json")
    with pytest.raises(DataError, match='there is no key "tain"') as caught:
        list(read_json(DataFile(file.path, inside=("tain",))))
    assert (caught.value.allowed, caught.value.remedy) == ("train", 'did you mean "train"?')
    with pytest.raises(DataError, match="an object stands where the list of rows should be"):
        list(read_json(DataFile(file.path, inside=("info",))))
    with pytest.raises(DataError, match=r"a\.json: an object") as caught:
        list(read_json(file))
    assert caught.value.remedy == "name the list, e.g. a.json#train, in the run file"


def test_the_toy_in_the_docstring_runs():
    results = doctest.testmod(fedpeft.data.readers.contract)
    assert results.attempted > 0
    assert results.failed == 0
