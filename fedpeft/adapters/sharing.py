"""An adapter in two parts: what is shared and travels, and what stays private on each client.

The coordinator, the codecs and the journal see the shared part as if it were the whole adapter: one vector of shape
(s,) with a layout and a digest of its own. A client puts it together with its private part, shape (p,), before it
trains or evaluates, and takes the two apart again afterwards; d = s + p. Without private tensors, what is shared is the
whole, uncopied.

FedSA-LoRA (arXiv 2410.01463) keeps every B private; FedPer (Arivazhagan et al. 2019, arXiv 1912.00818) the head.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fedpeft.errors import ModelError
from fedpeft.layouts import make_layout, named
from fedpeft.types import FloatArray, Layout


class Sharing:
    """Which places of θ are shared.

    Args:
        whole: layout of the adapter, d values.
        private: parts of tensors' names; see `named`.

    Attributes:
        whole: as given.
        shared: layout of the part that travels, s values; `whole` itself where nothing is private.
        private: layout of the part that stays, p values.

    Raises:
        ModelError: a part that no tensor has, or nothing left to share.
    """

    def __init__(self, whole: Layout, private: Sequence[str] = ()) -> None:
        self.whole = whole
        kept = named(whole, private, "private")
        if len(kept) == len(whole.tensors):
            raise ModelError(
                f"adapter.private = {list(private)} leaves nothing to share: all {len(kept)} tensors would be private",
                code="adapter.nothing-shared",
                allowed="parts of the names of some of the tensors",
                remedy="make fewer tensors private",
            )
        shapes = {tensor.name: tensor.shape for tensor in whole.tensors}
        self.private = make_layout({name: shape for name, shape in shapes.items() if name in kept})
        self.shared = make_layout({name: s for name, s in shapes.items() if name not in kept}) if kept else whole
        self._shared, self._private = _runs(whole, self.shared), _runs(whole, self.private)

    @property
    def is_whole(self) -> bool:
        """Whether nothing is private."""
        return self.private.size == 0

    def join(self, shared: FloatArray, private: FloatArray) -> FloatArray:
        """θ, shape (d,), of its two parts, shapes (s,) and (p,)."""
        if self.is_whole:
            return shared
        theta = np.empty(self.whole.size, dtype=np.float32)
        for runs, part in ((self._shared, shared), (self._private, private)):
            for place, own in runs:
                theta[place] = part[own]
        return theta

    def spread(self, shared: FloatArray) -> FloatArray:
        """The shared part, shape (s,), in its places, and zero elsewhere, shape (d,)."""
        return shared if self.is_whole else self.join(shared, np.zeros(self.private.size, dtype=np.float32))

    def shared_of(self, theta: FloatArray) -> FloatArray:
        """The shared part, shape (s,), of θ, shape (d,)."""
        return theta if self.is_whole else _gather(theta, self._shared, self.shared.size)

    def private_of(self, theta: FloatArray) -> FloatArray:
        """The private part, shape (p,), of θ, shape (d,)."""
        return _gather(theta, self._private, self.private.size)


def _runs(whole: Layout, part: Layout) -> list[tuple[slice, slice]]:
    """Where the part's values lie in the whole and in itself, in as few slices as may be."""
    places = {tensor.name: tensor.offset for tensor in whole.tensors}
    runs: list[tuple[slice, slice]] = []
    for tensor in part.tensors:
        begin = places[tensor.name]
        if runs and runs[-1][0].stop == begin:
            last, own = runs[-1]
            runs[-1] = (slice(last.start, begin + tensor.size), slice(own.start, own.stop + tensor.size))
        else:
            runs.append((slice(begin, begin + tensor.size), slice(tensor.offset, tensor.offset + tensor.size)))
    return runs


def _gather(theta: FloatArray, runs: Sequence[tuple[slice, slice]], size: int) -> FloatArray:
    part = np.empty(size, dtype=np.float32)
    for place, own in runs:
        part[own] = theta[place]
    return part
