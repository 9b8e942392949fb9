"""Labels as rows have them -> numbers, where names may be numbers themselves."""

import pytest
from tiny_files import config_of

from fedpeft.data import load_corpus
from fedpeft.errors import DataError


@pytest.fixture
def folder(tmp_path):
    return tmp_path


@pytest.mark.parametrize(
    ("column", "expected"),
    [("01234", [0, 1, 2, 3, 4]), ("12345", [0, 1, 2, 3, 4]), ("23432", [1, 2, 3, 2, 1])],
)
def test_names_that_are_numbers_are_read_one_way(folder, column, expected):
    rows = "text,label\n" + "".join(f"t{place},{label}\n" for place, label in enumerate(column))
    for file in ("train.csv", "test.csv"):
        (folder / file).write_text(rows)
    corpus = load_corpus(config_of(folder, 1, label_names=list("12345"), client_test=0.0))
    assert corpus.test.labels.tolist() == expected


@pytest.mark.parametrize("wrong", ["5", "-1"])
def test_a_number_that_no_name_has_is_refused(folder, wrong):
    """Though "5" is a name: the other rows have numbers."""
    for file in ("train.csv", "test.csv"):
        (folder / file).write_text(f"text,label\na,0\nb,4\nc,{wrong}\n")
    with pytest.raises(DataError, match=rf'line 4: label "{wrong}" is not in data\.label_names') as caught:
        load_corpus(config_of(folder, 1, label_names=list("12345")))
    assert "0 (1), 1 (2)" in str(caught.value)


def test_labels_that_are_numbers_are_numbered_as_such(folder):
    rows = "text,label\n" + "".join(f"t{label},{label}\n" for label in range(12))
    for file in ("train.csv", "test.csv"):
        (folder / file).write_text(rows)
    corpus = load_corpus(config_of(folder, 1, client_test=0.0))
    assert corpus.label_names == tuple(map(str, range(12)))
    assert corpus.test.labels.tolist() == list(range(12))
