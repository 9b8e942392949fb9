"""One process per run: the lock in a run's folder. The operating system frees it when its holder dies, however."""

from __future__ import annotations

from pathlib import Path

from filelock import FileLock, Timeout

from fedpeft.errors import JournalError
from fedpeft.journal.diagnosis import diagnosed

_FILE = "lock"  # empty, and left behind: whether it is locked counts, not whether it is there
_WAIT = 0.3  # seconds; `is_running` holds the lock for an instant to see whether it is free


def take_lock(folder: Path) -> FileLock:
    """Hold the run in `folder` until the lock is released or this process ends.

    Raises:
        JournalError: `journal.in-use`; `journal.read-only` where no file can be made.
    """
    lock = _lock(folder)
    with diagnosed(folder / _FILE):
        try:
            lock.acquire(timeout=_WAIT)
        except Timeout:
            raise JournalError(
                f"run folder {folder} is in use by another process",
                code="journal.in-use",
                allowed="one process per run; any number may read",
                remedy="wait for that process or stop it (`fedpeft ls` shows which runs are running), or choose "
                "another name with --set run.name=NAME",
            ) from None
    return lock


def is_running(folder: Path) -> bool:
    """Whether a process holds the run in `folder` now."""
    if not (folder / _FILE).exists():
        return False
    lock = _lock(folder)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        return True
    except OSError:  # a read-only folder: nothing can be running in it
        return False
    lock.release()
    return False


def _lock(folder: Path) -> FileLock:
    # thread_local=False: a journal that another thread closes must let go of its run too.
    return FileLock(folder / _FILE, thread_local=False)
