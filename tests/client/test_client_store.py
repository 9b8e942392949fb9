"""A client's disk: what is kept, what is forgotten, and that damage counts as loss."""

from __future__ import annotations

import os
import shutil

import numpy as np
import pytest
from safetensors.numpy import load, save

from fedpeft.client import ClientStore
from fedpeft.codecs.broadcast import quantise

SIZE = 100


@pytest.fixture
def store(tmp_path):
    return ClientStore(tmp_path / "c00", SIZE)


def codes(seed):
    return quantise(np.random.default_rng(seed).normal(size=SIZE).astype(np.float32))


def residual(seed):
    return np.random.default_rng(seed).normal(size=SIZE).astype(np.float32)


def test_nothing_is_made_before_something_is_kept(store):
    assert store.versions() == ()
    assert store.broadcast(1) is None
    assert store.residual(1) is None
    assert not store.folder.exists()


def test_files_that_somebody_else_put_there_are_none_of_ours(store, tmp_path):
    store.keep_broadcast(3, codes(3), also=())
    store.keep_residual(4, residual(4), also=())
    for name in ("broadcast-000003 copy", "residual-000004.conflict", "residual-", "broadcast-old-7"):
        (store.folder / f"{name}.safetensors").write_bytes(b"not ours")
    again = ClientStore(tmp_path / "c00", SIZE)
    assert again.versions() == (3,)
    assert np.array_equal(again.residual(4), residual(4))
    again.keep_residual(5, residual(5), also=())
    assert (store.folder / "residual-000004.conflict.safetensors").exists()


def test_what_is_kept_comes_back_bit_by_bit(store):
    store.keep_broadcast(3, codes(3), also=())
    store.keep_residual(4, residual(4), also=())
    again = ClientStore(store.folder, SIZE)
    assert again.versions() == (3,)
    assert again.broadcast(3).digest() == codes(3).digest()
    np.testing.assert_array_equal(again.residual(4), residual(4))


def test_all_but_the_named_versions_are_forgotten(store):
    for version in (1, 2, 3):
        store.keep_broadcast(version, codes(version), also={1})
        store.keep_residual(version, residual(version), also={1})
    assert store.versions() == (1, 3)
    assert [n for n in (1, 2, 3) if store.residual(n) is not None] == [1, 3]


def test_a_version_that_an_earlier_run_left_behind_is_replaced(store):
    """A new run of the same name on an old disk: version 1 is another adapter now."""
    store.keep_broadcast(1, codes(1), also=())
    store.keep_broadcast(1, codes(77), also=())
    assert store.broadcast(1).digest() == codes(77).digest()


def test_a_residual_of_zeros_takes_away_the_one_that_an_earlier_run_left(store):
    store.keep_residual(1, residual(1), also=())
    store.keep_residual(2, residual(2), also={1})
    store.keep_residual(2, np.zeros(SIZE, dtype=np.float32), also={1})
    np.testing.assert_array_equal(store.residual(2), np.zeros(SIZE))
    assert store.residual(1) is not None
    store.keep_residual(3, np.zeros(SIZE, dtype=np.float32), also=())
    assert store.residual(1) is None


def test_owing_nothing_is_told_from_a_residual_that_is_lost(store):
    store.keep_residual(1, np.zeros(SIZE, dtype=np.float32), also=())
    (path,) = store.folder.iterdir()
    assert path.stat().st_size < 400, "it has no values"
    again = ClientStore(store.folder, SIZE)
    np.testing.assert_array_equal(again.residual(1), np.zeros(SIZE))
    assert again.residual(1).dtype == np.float32
    path.unlink()
    assert again.residual(1) is None


@pytest.mark.parametrize("damage", [b"", b"rubbish", None], ids=["empty", "rubbish", "half"])
def test_a_damaged_file_is_as_good_as_lost(store, damage):
    store.keep_broadcast(1, codes(1), also=())
    store.keep_residual(1, residual(1), also=())
    for path in store.folder.iterdir():
        content = path.read_bytes()
        path.write_bytes(content[: len(content) // 2] if damage is None else damage)
    assert store.broadcast(1) is None
    assert store.residual(1) is None


def test_a_file_of_another_adapter_is_as_good_as_lost(store):
    store.keep_broadcast(1, codes(1), also=())
    store.keep_residual(1, residual(1), also=())
    other = ClientStore(store.folder, SIZE + 1)
    assert other.broadcast(1) is None
    assert other.residual(1) is None


def killed_while_writing(monkeypatch, keep):
    """Have a write end as a kill would end it, right before the draft gets its name; returns the draft."""
    import fedpeft.paths

    class Killed(BaseException):
        pass

    def kill(*_):
        raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(fedpeft.paths.os, "replace", kill)
        patched.setattr(fedpeft.paths.Path, "unlink", lambda *_, **__: None)
        with pytest.raises(Killed):
            keep()


def drafts(store):
    return [path.name for path in store.folder.iterdir() if path.name.startswith(".")]


def test_no_draft_is_left_behind_or_listed(store, monkeypatch):
    store.keep_broadcast(1, codes(1), also=())
    killed_while_writing(monkeypatch, lambda: store.keep_broadcast(2, codes(2), also={1}))
    killed_while_writing(monkeypatch, lambda: store.keep_residual(2, residual(2), also={1}))
    assert sorted(name[:27] for name in drafts(store)) == [
        ".broadcast-000002.safetenso", ".residual-000002.safetensor",
    ]  # fmt: skip
    again = ClientStore(store.folder, SIZE)  # the next process
    assert again.versions() == (1,)
    assert again.residual(2) is None
    assert len(drafts(store)) == 2, "who only looks may look at a folder in which another process writes"
    again.keep_residual(3, residual(3), also={1})
    assert drafts(store) == []
    assert again.versions() == (1,)
    np.testing.assert_array_equal(again.residual(3), residual(3))


def test_a_file_of_a_name_that_no_draft_has_stays(store):
    store.folder.mkdir()
    for name in (".nfs000000000123abcd00000001", ".residual-000002.safetensors.x7", "notes.0123456789abcdef"):
        (store.folder / name).write_bytes(b"somebody else's")
    store.keep_residual(3, residual(3), also=())
    assert len(list(store.folder.iterdir())) == 4


def test_a_draft_that_another_process_takes_away_is_written_again(store, monkeypatch):
    """Two processes for one client, the older one given up but still at work: it must not fail."""
    store.keep_residual(1, residual(1), also=())
    fsync = os.fsync

    def meanwhile(handle):
        monkeypatch.setattr(os, "fsync", fsync)
        ClientStore(store.folder, SIZE).keep_broadcast(7, codes(7), also=())
        fsync(handle)

    monkeypatch.setattr(os, "fsync", meanwhile)
    store.keep_residual(2, residual(2), also={1})
    np.testing.assert_array_equal(store.residual(2), residual(2))
    assert drafts(store) == []


def test_with_or_without_flushes_the_same_is_kept(tmp_path):
    for flush in (True, False):
        store = ClientStore(tmp_path / str(flush), SIZE, flush=flush)
        for number in range(1, 6):
            store.keep_broadcast(number, codes(number), also={number - 1})
            store.keep_residual(number, residual(number), also={number - 1})
    kept, other = (sorted((p.name, p.read_bytes()) for p in (tmp_path / name).iterdir()) for name in ("True", "False"))
    assert kept == other
    assert [name for name, _ in kept] == [
        f"{kind}-00000{n}.safetensors" for kind in ("broadcast", "residual") for n in (4, 5)
    ]


def test_without_flushes_the_disk_is_never_waited_for(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "fsync", None)
    store = ClientStore(tmp_path / "c00", SIZE, flush=False)
    store.keep_residual(1, residual(1), also=())
    np.testing.assert_array_equal(store.residual(1), residual(1))
    store.flush = True
    with pytest.raises(TypeError):
        store.keep_residual(2, residual(2), also=())


def test_a_residual_under_the_name_of_another_round_is_lost(store):
    """A file is written over one that is no longer needed: a power cut may leave the old content under the new name."""
    store.keep_residual(1, residual(1), also=())
    store.keep_residual(2, residual(2), also={1})
    one, two = sorted(store.folder.iterdir())
    two.write_bytes(one.read_bytes())
    assert store.residual(2) is None
    np.testing.assert_array_equal(store.residual(1), residual(1))


def test_a_residual_that_version_0_1_wrote_counts(store):
    store.folder.mkdir()
    (store.folder / "residual-000003.safetensors").write_bytes(save({"residual": residual(3)}))
    np.testing.assert_array_equal(store.residual(3), residual(3))


def keep_something(store, kind):
    """Of either kind that has a digest; returns the file, and what reads it."""
    if kind == "residual":
        store.keep_residual(1, residual(1), also=())
    else:
        store.keep_memory(1, {"private": residual(1), "half.c_i": residual(2)}, also=())
    (path,) = store.folder.iterdir()
    return path, getattr(store, kind)


@pytest.mark.parametrize("kind", ["residual", "memory"])
def test_a_flipped_bit_anywhere_in_a_file_is_as_good_as_its_loss(store, kind):
    path, read = keep_something(store, kind)
    content, whole = path.read_bytes(), read(1)
    assert whole is not None
    for place in range(0, len(content), 3):
        path.write_bytes(content[:place] + bytes([content[place] ^ 1 << place % 8]) + content[place + 1 :])
        found = read(1)
        if found is not None:  # in the blanks after the header: nothing came of it
            np.testing.assert_equal(found, whole)
            assert place < 8 + int.from_bytes(content[:8], "little"), "a flipped bit of a value was taken for it"


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("kind", ["residual", "memory"])
def test_what_version_0_1_wrote_counts_only_if_it_is_finite(store, kind, value):
    """It wrote no digest."""
    path, read = keep_something(store, kind)
    arrays = {name: array.copy() for name, array in load(path.read_bytes()).items() if name != "sha256"}
    path.write_bytes(save(arrays))
    np.testing.assert_equal(
        read(1), residual(1) if kind == "residual" else {"private": residual(1), "half.c_i": residual(2)}
    )
    next(array for name, array in arrays.items() if array.dtype == np.float32)[3] = value
    path.write_bytes(save(arrays))
    assert read(1) is None


def test_a_digest_whose_name_is_damaged_is_not_taken_for_a_file_without_one(store):
    path, read = keep_something(store, "residual")
    path.write_bytes(
        path.read_bytes().replace(b"sha256", b"sha257").replace(residual(1).tobytes(), residual(2).tobytes())
    )
    assert read(1) is None


def test_a_folder_that_was_taken_away_is_made_again(store):
    store.keep_broadcast(1, codes(1), also=())
    shutil.rmtree(store.folder)
    store.keep_broadcast(2, codes(2), also=())
    assert store.broadcast(1) is None
    assert store.versions() == (2,)
