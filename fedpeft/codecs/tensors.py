"""What codecs share that treat each tensor by itself: the layout that they are fitted to."""

from __future__ import annotations

from copy import copy
from typing import Self

from fedpeft.codecs.base import MalformedPayload
from fedpeft.types import Layout, TensorSpec


class PerTensor:
    """Keeps the layout; not fitted to any, a codec takes a vector of whatever length for one tensor."""

    name: str
    layout: Layout | None = None

    def fitted(self, layout: Layout) -> Self:
        """See `LayoutCodec.fitted`."""
        fitted = copy(self)
        fitted.layout = layout
        return fitted

    def tensors(self, size: int) -> tuple[TensorSpec, ...]:
        """The tensors of a vector of so many values, in their order.

        Raises:
            MalformedPayload: the layout is of another length.
        """
        if self.layout is None:
            return (TensorSpec("vector", (size,), 0),)
        if self.layout.size != size:
            raise MalformedPayload(self.name, f"{size} values", allowed=f"the layout's {self.layout.size}")
        return self.layout.tensors
