"""Arrays and a little JSON as bytes, for the parts of a commit's snapshot. Safetensors: nothing in it can run."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError
from safetensors.numpy import load, save

from fedpeft.errors import JournalError
from fedpeft.journal.events import JSON

_META = "meta"  # the one key of the file's own metadata; with one key their order is always the same
_DTYPES = frozenset(
    ("bool", "uint8", "int8", "uint16", "int16", "float16", "uint32", "int32", "float32", "uint64", "int64", "float64")
)


def pack(arrays: Mapping[str, npt.NDArray[Any]], meta: Mapping[str, JSON]) -> bytes:
    """Arrays and metadata -> bytes, equal for equal input whatever its order.

    Args:
        arrays: of any shape, also () and with no elements; bool, integers of 8 to 64 bits, floats of 16 to 64.
        meta: JSON; numbers are finite.

    Raises:
        JournalError: code `journal.snapshot`; an array of another dtype or a value that is not JSON, with its name.
    """
    for name, array in arrays.items():
        if array.dtype.name not in _DTYPES or name == "__metadata__":
            raise JournalError(
                f'snapshot array "{name}" of dtype {array.dtype} cannot be kept',
                code="journal.snapshot",
                allowed=f'dtypes {", ".join(sorted(_DTYPES))}; any name but "__metadata__"',
                remedy="convert or rename it",
            )
    try:
        text = json.dumps(meta, allow_nan=False, sort_keys=True)
    except (TypeError, ValueError) as error:
        raise JournalError(
            f"snapshot metadata {dict(meta)!r} cannot be kept: {error}",
            code="journal.snapshot",
            allowed="JSON with finite numbers",
            remedy="convert the value, or keep it as an array",
        ) from error
    # safetensors reads raw memory: it must be contiguous (asarray, as ascontiguousarray makes shape () into (1,))
    # and little-endian.
    dense = {name: np.asarray(a, dtype=a.dtype.newbyteorder("<"), order="C") for name, a in arrays.items()}
    return bytes(save(dense, metadata={_META: text}))


def unpack(content: bytes) -> tuple[dict[str, npt.NDArray[Any]], dict[str, Any]]:
    """What `pack` was given: (arrays, meta). The arrays are writable copies, equal bit by bit.

    Raises:
        JournalError: code `journal.snapshot`; `content` is not what `pack` returns.
    """
    try:
        arrays = {name: np.array(array) for name, array in load(content).items()}
        size = int.from_bytes(content[:8], "little")  # of the JSON header, which `load` has checked
        meta = json.loads(json.loads(content[8 : 8 + size])["__metadata__"][_META])
    except (SafetensorError, ValueError, KeyError, TypeError) as error:
        raise JournalError(
            f"snapshot of {len(content)} bytes cannot be read: {error}",
            code="journal.snapshot",
            allowed="the bytes that pack() returned",
            remedy="the journal's last commit is damaged or was not written by fedpeft: restore the run's folder",
        ) from error
    return arrays, meta
