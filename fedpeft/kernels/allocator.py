"""Keep memory that tensors gave back, instead of handing it to the system and asking for it again a moment later.

glibc gives every block above a threshold its own mapping, and unmaps it when freed. A training step allocates many such
blocks, and each costs page faults anew.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # mallopt(3)


def keep_freed_memory(upto: int = 1 << 30) -> bool:
    """Let this process reuse freed blocks of up to `upto` bytes; False where the C library offers no such thing.

    The process then stays as large as it once was.
    """
    mallopt = _of_glibc("mallopt")
    return mallopt is not None and bool(mallopt(_MMAP_THRESHOLD, upto)) and bool(mallopt(_TRIM_THRESHOLD, upto))


def release_freed_memory() -> None:
    """Hand what is free now to the system: after a phase that needed more than what follows it."""
    trim = _of_glibc("malloc_trim")
    if trim is not None:
        trim(0)


def _of_glibc(name: str) -> Callable[..., int] | None:
    if not sys.platform.startswith("linux"):
        return None
    try:
        function: Callable[..., int] = getattr(ctypes.CDLL(None), name)
    except (OSError, AttributeError):  # musl has none
        return None
    return function
