"""What SQLite and the operating system say, as a `JournalError` with a stable code and a remedy."""

from __future__ import annotations

import errno
import os
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fedpeft.errors import JournalError

_NO_ROOM = 65_536  # bytes; an I/O error with less than this free is called a full disk


@contextmanager
def diagnosed(path: Path) -> Iterator[None]:
    """Turn the errors of SQLite and of the file system within the block into a `JournalError` about `path`.

    A `sqlite3.ProgrammingError` passes through: it is a mistake of the caller, e.g. a journal used from two threads.

    Raises:
        JournalError: with one of the codes `journal.disk-full`, `journal.read-only`, `journal.corrupt`,
            `journal.in-use`, `journal.no-memory` and `journal.io`.
    """
    try:
        yield
    except (sqlite3.ProgrammingError, sqlite3.InterfaceError):
        raise
    except sqlite3.Error as error:
        raise _from_sqlite(error, path) from error
    except UnicodeDecodeError as error:  # the sqlite3 module, when SQLite's message quotes a damaged table definition
        raise corrupt(path, f"its table definitions are not text: {error.object!r}") from error
    except OSError as error:
        raise _from_system(error, path) from error


def corrupt(path: Path, what: str) -> JournalError:
    """The error for a journal that is damaged, or that is no journal; `what` says where."""
    return JournalError(
        f"journal {path} is corrupt: {what}",
        code="journal.corrupt",
        allowed="a journal as fedpeft wrote it",
        remedy="restore the run's folder from a backup (all of it, with journal.sqlite-wal if there is one), or start "
        "the run again with --fresh; check the disk",
    )


def read_only(path: Path, what: str) -> JournalError:
    """The error for a journal that cannot be written where it lies."""
    return JournalError(
        f"journal {path} cannot be written: {what}",
        code="journal.read-only",
        allowed="a folder and files that this user may write, on a file system that is mounted writable",
        remedy="correct the permissions or the mount, or copy the run's folder to a writable place; nothing is lost",
    )


def disk_full(path: Path, what: str) -> JournalError:
    """The error for a journal that finds no room; what was being written is rolled back as a whole."""
    return JournalError(
        f"journal {path}: no room to write ({what}); the last commit is whole",
        code="journal.disk-full",
        remedy="free disk space or raise the quota, then `fedpeft resume` goes on after the last commit",
    )


def _from_sqlite(error: sqlite3.Error, path: Path) -> JournalError:
    # Errors that the sqlite3 module raises by itself carry no code; they come from text that is not UTF-8.
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_CORRUPT) & 0xFF  # the primary code is the low byte
    what = f"SQLite says {error} ({getattr(error, 'sqlite_errorname', type(error).__name__)})"
    if code == sqlite3.SQLITE_FULL:
        return disk_full(path, what)
    if code in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM, sqlite3.SQLITE_AUTH):
        return read_only(path, what)
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return JournalError(
            f"journal {path} is locked by another program: {what}",
            code="journal.in-use",
            allowed="programs that only read the journal",
            remedy="close that program, e.g. a database browser, then resume",
        )
    # Our SQL is fixed: a statement that does not fit the tables, or a value against their rules, means damaged tables.
    if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_ERROR, sqlite3.SQLITE_CONSTRAINT):
        return corrupt(path, what)
    if code == sqlite3.SQLITE_NOMEM:
        return JournalError(
            f"journal {path}: out of memory ({what})", code="journal.no-memory", remedy="free memory, then resume"
        )
    if not os.access(path.parent, os.W_OK):
        return read_only(path, what)
    if shutil.disk_usage(path.parent).free < _NO_ROOM:
        return disk_full(path, what)
    return _io(path, what)


def _from_system(error: OSError, path: Path) -> JournalError:
    what = f"{error.strerror or error}: {error.filename or path}"
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return disk_full(path, what)
    if error.errno in (errno.EROFS, errno.EACCES, errno.EPERM):
        return read_only(path, what)
    return _io(path, what)


def _io(path: Path, what: str) -> JournalError:
    return JournalError(
        f"journal {path} cannot be read or written: {what}",
        code="journal.io",
        remedy="check the disk and the path; the run folder must be on a local file system",
    )
