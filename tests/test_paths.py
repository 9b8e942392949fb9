"""A file is replaced whole or not at all."""

import os

import pytest

from fedpeft.paths import write_atomically


def test_a_file_is_written_and_replaced(tmp_path):
    path = tmp_path / "a.bin"
    for content in (b"one", b"a longer second", b""):
        write_atomically(path, content)
        assert path.read_bytes() == content
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.bin"]


@pytest.mark.parametrize("broken", ["fsync", "replace"])
def test_an_old_file_survives_any_failure(tmp_path, monkeypatch, broken):
    path = tmp_path / "a.bin"
    write_atomically(path, b"old")

    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, broken, fail)
    with pytest.raises(OSError, match="No space left"):
        write_atomically(path, b"new")
    assert path.read_bytes() == b"old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.bin"]


def test_the_bytes_are_on_disk_before_the_name_is(tmp_path, monkeypatch):
    done = []
    fsync, replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda handle: (done.append("fsync"), fsync(handle))[1])
    monkeypatch.setattr(os, "replace", lambda a, b: (done.append("replace"), replace(a, b))[1])
    write_atomically(tmp_path / "a.bin", b"x")
    assert done == ["fsync", "replace", "fsync"]  # the file, its name, the folder


def test_others_may_read_it_as_the_umask_says(tmp_path):
    before = os.umask(0o022)
    try:
        write_atomically(tmp_path / "a.bin", b"x")
    finally:
        os.umask(before)
    assert (tmp_path / "a.bin").stat().st_mode & 0o777 == 0o644


def test_a_missing_folder_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        write_atomically(tmp_path / "no" / "a.bin", b"x")


@pytest.mark.parametrize("flush", [True, False])
@pytest.mark.parametrize("content", [b"short", b"", b"much longer than what was there before"])
def test_a_file_that_nobody_needs_becomes_the_new_one(tmp_path, content, flush):
    old, path = tmp_path / "old.bin", tmp_path / "new.bin"
    old.write_bytes(b"what was there")
    inode = old.stat().st_ino
    write_atomically(path, content, flush=flush, reuse=old)
    assert path.read_bytes() == content
    assert path.stat().st_ino == inode
    assert [entry.name for entry in tmp_path.iterdir()] == ["new.bin"]


def test_a_file_to_reuse_that_is_gone_is_not_missed(tmp_path):
    write_atomically(tmp_path / "new.bin", b"x", reuse=tmp_path / "gone.bin")
    assert [entry.name for entry in tmp_path.iterdir()] == ["new.bin"]


def test_without_flush_nothing_waits_for_the_disk(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "fsync", None)
    write_atomically(tmp_path / "a.bin", b"x", flush=False)
    assert (tmp_path / "a.bin").read_bytes() == b"x"
