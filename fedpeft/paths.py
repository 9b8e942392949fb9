"""Durable files: write whole or not at all."""

from __future__ import annotations

import os
import secrets
from contextlib import suppress
from pathlib import Path


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
    name = path.parent / f".{path.name}.{secrets.token_hex(8)}"
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
