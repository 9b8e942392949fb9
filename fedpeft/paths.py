"""Durable files: write whole or not at all. And what a person types for a run's folder."""

from __future__ import annotations

import os
import re
import secrets
import shlex
from contextlib import suppress
from pathlib import Path

_DRAFT = re.compile(r"\..+\.[0-9a-f]{16}")


def write_atomically(path: Path, content: bytes, *, flush: bool = True, reuse: Path | None = None) -> None:
    """Replace `path` by `content` so that a reader, or a crash, sees the old file or the new one, never half of one.

    Args:
        path: of the file; its folder is there.
        content: all of it.
        flush: the bytes and the directory entry are on disk before this returns. Without it, a killed process still
            leaves the old file or the new one; a power cut may leave neither, or an empty one.
        reuse: a file in the same folder that nobody needs any more; it becomes this one, which costs a file system
            far less than to make one and to remove one.

    Raises:
        OSError: the folder is missing or read-only, or the disk is full; the old file is then untouched.
    """
    name = path.parent / f".{path.name}.{secrets.token_hex(8)}"  # matches _DRAFT
    created = os.O_CREAT | os.O_EXCL
    if reuse is not None:
        with suppress(FileNotFoundError):
            os.replace(reuse, name)
            created = 0
    try:
        handle = os.open(name, os.O_WRONLY | created | getattr(os, "O_BINARY", 0), 0o666)  # less the umask
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            if not created:
                file.truncate()
            if flush:
                file.flush()
                os.fsync(file.fileno())
        os.replace(name, path)
    except BaseException:
        name.unlink(missing_ok=True)
        raise
    if not flush:
        return
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def remove_drafts(folder: Path) -> None:
    """Remove what `write_atomically` leaves behind when it is killed: files of up to the size that was to be written.

    For a folder in which one process at a time writes: a draft looks the same whether its writer is dead or at work.

    Args:
        folder: may be missing. What cannot be removed stays, since it does no harm.
    """
    with suppress(OSError), os.scandir(folder) as entries:
        for entry in [entry for entry in entries if _DRAFT.fullmatch(entry.name)]:
            with suppress(OSError):
                os.unlink(entry.path)


def run_argument(folder: Path) -> str:
    """What a person types in a shell for a run: its name when it lies under runs/, its folder otherwise."""
    return shlex.quote(folder.name if folder.parent == Path("runs") else str(folder))
