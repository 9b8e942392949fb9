"""A mask: which units a client keeps, one bit each, packed as `numpy.packbits` does.

Of every group of H units a ratio ρ keeps the ⌊(1 − ρ) H + 1/2⌋ with the highest scores, and of equal scores those with
lower numbers; so the units that a larger ratio keeps are among those of a smaller one. A mask takes ⌈U/8⌉ bytes.

Of 256 units or more, channels that is, whole sixteens are kept: matrices of ragged widths are slower, and the last bits
of their products may depend on how many rows share a pass, and so a client's update on who is trained with it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

GRAIN, MANY = 16, 256
"""Groups of `MANY` units or more keep a multiple of `GRAIN`, if they are one."""


def kept_of(size: int, ratio: float) -> int:
    """How many units of a group a ratio keeps.

    >>> kept_of(12, 0.5), kept_of(12, 0.3), kept_of(4, 0.9), kept_of(1536, 0.3)
    (6, 8, 0, 1072)
    >>> kept_of(5, 0.9), kept_of(25, 0.34), kept_of(400, 0.9)  # halves, which (1 - ρ) H misses by its rounding
    (1, 17, 48)
    """
    grain = GRAIN if size >= MANY and size % GRAIN == 0 else 1
    return math.floor(round((1.0 - ratio) * size / grain, 9) + 0.5) * grain


def largest_ratio(sizes: Sequence[int]) -> float:
    """The largest ratio, in hundredths, at which every group still keeps something.

    >>> largest_ratio([12, 1536]), largest_ratio([4, 512])
    (0.95, 0.87)
    """
    ratios = (ratio / 100 for ratio in range(99, -1, -1))
    return next(ratio for ratio in ratios if all(kept_of(size, ratio) > 0 for size in sizes))


def choose(scores: npt.NDArray[np.floating], sizes: Sequence[int], ratio: float) -> bytes:
    """The mask of a ratio; empty where it keeps everything.

    >>> choose(np.array([0.1, 0.9, 0.5, 0.5]), [2, 2], 0.5).hex()  # 0110 0000
    '60'

    Args:
        scores: of all units, shape (U,); higher is kept.
        sizes: of the groups, in order.
        ratio: in [0, 1).

    Raises:
        ValueError: a group would keep none.
    """
    kept = np.zeros(sum(sizes), dtype=bool)
    start = 0
    for size in sizes:
        count = kept_of(size, ratio)
        if count == 0:
            raise ValueError(f"a pruning ratio of {ratio:g} keeps none of {size}")
        order = np.argsort(-scores[start : start + size], kind="stable")
        kept[start + order[:count]] = True
        start += size
    return b"" if kept.all() else np.packbits(kept).tobytes()


def unpack(mask: bytes, sizes: Sequence[int]) -> npt.NDArray[np.bool_]:
    """Which units a mask keeps, shape (U,).

    Raises:
        ValueError: it is of another model, or a group keeps none.
    """
    count = sum(sizes)
    if len(mask) != -(-count // 8):
        raise ValueError(f"a mask of {len(mask)} bytes for {count} heads and channels: it must have {-(-count // 8)}")
    bits = np.unpackbits(np.frombuffer(mask, dtype=np.uint8))
    if bits[count:].any():
        raise ValueError(f"a mask with bits beyond the {count} heads and channels that there are")
    kept = bits[:count].astype(bool)
    start = 0
    for place, size in enumerate(sizes):
        if not kept[start : start + size].any():
            raise ValueError(f"a mask that keeps none of the {size} units of group {place}")
        start += size
    return kept


def kept_units(told: Mapping[str, Any]) -> dict[tuple[int, str], list[int]]:
    """What the journal tells of a mask, in numbers: by layer and kind, which heads or channels are kept.

    >>> kept_units({"bits": "60", "groups": [[0, "heads", 2], [0, "channels", 2]]})
    {(0, 'heads'): [1], (0, 'channels'): [0]}

    Args:
        told: `bits` and `groups` of an event `mask_made`.

    Raises:
        ValueError: as `unpack`.
    """
    kept = unpack(bytes.fromhex(told["bits"]), [size for _, _, size in told["groups"]])
    found, start = {}, 0
    for layer, kind, size in told["groups"]:
        found[layer, kind] = np.flatnonzero(kept[start : start + size]).tolist()
        start += size
    return found
