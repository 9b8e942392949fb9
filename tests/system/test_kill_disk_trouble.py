"""Trouble with the disk in the middle of a run: a named error, nothing lost, and `resume` when it is over."""

from __future__ import annotations

import contextlib
import os
import resource
import shutil
import subprocess
import sys

import pytest
from tiny import run_tiny
from tiny_text import write_run

from fedpeft.errors import JournalError
from fedpeft.journal import EventKind, Journal

pytestmark = pytest.mark.system


@pytest.fixture(scope="module")
def expected(tmp_path_factory):
    return run_tiny(tmp_path_factory.mktemp("expected")).adapter_hash


@pytest.fixture
def disk(tmp_path):
    """A small file system of its own; skips where mounting is not allowed."""
    folder = tmp_path / "disk"
    folder.mkdir()
    try:
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(folder)], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"cannot mount: {error}")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def at(kind, count, act):
    """An observer that acts once, at the N-th event of a kind."""
    left = [count]

    def observe(event):
        left[0] -= event.kind is kind
        if event.kind is kind and left[0] == 0:
            act()

    return observe


def committed(folder):
    with Journal.open(folder) as journal:
        commit = journal.last_commit()
        for digest in commit.snapshot.values():
            journal.blob(digest)
        return commit.round


@pytest.mark.parametrize(
    ("kind", "count"),
    [
        (EventKind.HELLO, 2),
        (EventKind.ROUND_OPENED, 2),
        (EventKind.ASKED, 4),
        (EventKind.ACCEPTED, 5),
        (EventKind.COMMITTED, 3),
        (EventKind.CLIENT_EVALUATED, 10),
    ],
)
def test_a_disk_that_fills_up(disk, expected, kind, count):
    filler = disk / "filler"

    def fill():
        with filler.open("ab", buffering=0) as file, contextlib.suppress(OSError):
            while True:
                file.write(b"\0" * 4096)

    with pytest.raises(JournalError) as caught:
        run_tiny(disk, observers=[at(kind, count, fill)])
    assert caught.value.code == "journal.disk-full"
    assert caught.value.exit_status == 7
    assert "resume" in caught.value.remedy
    filler.unlink()
    assert committed(disk / "tiny") >= 0
    assert run_tiny(disk, resume=True).adapter_hash == expected


def test_a_disk_that_becomes_read_only(disk, expected):
    def remount(mode):
        subprocess.run(["mount", "-o", f"remount,{mode}", str(disk)], check=False, capture_output=True)

    # A file that is open for writing keeps the mount busy: what is taken away here is the right to write anew.
    run = disk / "tiny"
    with pytest.raises(KeyboardInterrupt):
        run_tiny(disk, observers=[at(EventKind.COMMITTED, 3, _interrupt)])
    remount("ro")
    if os.access(run, os.W_OK):
        pytest.skip("cannot remount")
    with pytest.raises(JournalError) as caught:
        run_tiny(disk, resume=True)
    assert caught.value.code == "journal.read-only"
    remount("rw")
    assert run_tiny(disk, resume=True).adapter_hash == expected


def _interrupt():
    raise KeyboardInterrupt


@pytest.mark.parametrize("place", ["header", "middle"])
def test_a_journal_that_was_damaged_between_kill_and_resume(tmp_path, expected, place):
    with pytest.raises(KeyboardInterrupt):
        run_tiny(tmp_path, observers=[at(EventKind.COMMITTED, 3, _interrupt)])
    folder, backup = tmp_path / "tiny", tmp_path / "backup"
    shutil.copytree(folder, backup)
    path = folder / "journal.sqlite"
    damaged = bytearray(path.read_bytes())
    start = 0 if place == "header" else 4096
    damaged[start : start + 600] = b"\xa5" * 600
    path.write_bytes(damaged)
    with pytest.raises(JournalError) as caught:
        run_tiny(tmp_path, resume=True)
    assert caught.value.code == "journal.corrupt"
    assert "backup" in caught.value.remedy
    assert path.read_bytes() == bytes(damaged), "a damaged journal is not written to"
    shutil.rmtree(folder)
    shutil.copytree(backup, folder)
    assert run_tiny(tmp_path, resume=True).adapter_hash == expected


def test_the_command_exits_with_the_journals_status_and_goes_on_later(tmp_path):
    """No file may grow beyond a limit: works without the right to mount."""
    run_file = write_run(tmp_path, run__rounds=6)

    def fedpeft(*arguments, limit=None):
        def lower():
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

        return subprocess.run(
            [sys.executable, "-m", "fedpeft.cli.main", *arguments],
            preexec_fn=lower if limit else None,
            capture_output=True,
            text=True,
            cwd=tmp_path,
            check=False,
            timeout=120,
        )

    failed = fedpeft("run", str(run_file), limit=150_000)
    assert failed.returncode == 7, failed.stderr
    assert "journal" in failed.stderr
    assert "Traceback" not in failed.stderr
    assert committed(tmp_path / "runs" / "colours") >= 0
    assert fedpeft("resume", str(tmp_path / "runs" / "colours")).returncode == 0
    assert committed(tmp_path / "runs" / "colours") == 6
