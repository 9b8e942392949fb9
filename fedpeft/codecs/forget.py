"""Without error feedback: what the codec loses is lost, and owed to no later delta.

`forget+int4` is `int4` as if each round were the only one: to see what error feedback is worth (compare with `int4`),
or for clients that must keep nothing on disk between rounds.
"""

from __future__ import annotations

from fedpeft.codecs.base import Codec, fitted, inside, on_uplink
from fedpeft.codecs.searching import is_searching
from fedpeft.types import FloatArray, Layout


class Forgetful:
    """See the module.

    Args:
        inner: any codec.
    """

    first = True
    owes = False
    whole = True

    def __init__(self, inner: Codec) -> None:
        self.inner = inner
        self.name = f"forget+{inner.name}"
        self.max_bytes = inner.max_bytes
        self.nominal_bytes = inner.nominal_bytes
        if is_searching(inner):
            self.search, self.looks = inner.search, inner.looks

    def encode(self, values: FloatArray) -> bytes:
        """See `Codec.encode`."""
        return self.inner.encode(values)

    def decode(self, body: bytes, size: int) -> FloatArray:
        """See `Codec.decode`."""
        with inside(self.name):
            return self.inner.decode(body, size)

    def fitted(self, layout: Layout) -> Forgetful:
        """See `LayoutCodec.fitted`."""
        return Forgetful(fitted(self.inner, layout))

    def on_uplink(self, bits_per_second: float) -> Forgetful:
        """See `UplinkCodec.on_uplink`."""
        return Forgetful(on_uplink(self.inner, bits_per_second))
