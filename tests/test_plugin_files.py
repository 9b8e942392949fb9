"""Plug-ins in files: what runs is what is hashed, and a run sees one version of a file."""

import hashlib

import pytest

from fedpeft import plugin_files
from fedpeft.plugin_files import forget_edited, load_file, offer
from fedpeft.registry import load

FILE = "class Near:\n    mu = {mu}\n"


@pytest.fixture
def write(tmp_path, monkeypatch):
    """Files of equal length, written in the same second: their times and sizes tell nothing."""
    monkeypatch.setattr(plugin_files, "_OFFERED", {})

    def writing(mu):
        (tmp_path / "near.py").write_text(FILE.format(mu=mu))
        return hashlib.sha256(FILE.format(mu=mu).encode()).hexdigest()[:12]

    return writing


def test_what_is_offered_under_a_hash_is_the_code_of_that_hash(tmp_path, write):
    first = write(1)
    assert offer("objective", "near.py:Near", tmp_path) == f"near.py:Near#{first}"
    second = write(5)
    assert offer("objective", "near.py:Near", tmp_path) == f"near.py:Near#{first}"  # what was loaded
    forget_edited()
    assert offer("objective", "near.py:Near", tmp_path) == f"near.py:Near#{second}"
    assert load("objective", f"near.py:Near#{first}").mu == 1
    assert load("objective", f"near.py:Near#{second}").mu == 5


def test_a_file_that_is_edited_during_a_run_stays_what_it_was(tmp_path, write):
    write(1)
    assert load_file("codec", "near.py:Near", tmp_path).mu == 1
    write(5)
    assert load_file("codec", "near.py:Near", tmp_path).mu == 1
    forget_edited()
    assert load_file("codec", "near.py:Near", tmp_path).mu == 5


def test_a_file_that_was_not_edited_is_not_run_again(tmp_path, write):
    write(1)
    before = load_file("strategy", "near.py:Near", tmp_path)
    forget_edited()
    assert load_file("strategy", "near.py:Near", tmp_path) is before


def test_a_file_leaves_no_compiled_one_beside_it(tmp_path, write):
    write(1)
    load_file("codec", "near.py:Near", tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["near.py"]
