"""Asymmetric numeral systems (Duda 2013, arXiv 1311.2540): symbols within a percent of their entropy.

The coder is constriction's (Bamler 2022, arXiv 2201.01741), an optional package: `pip install "fedpeft[ans]"`. Its
model are the symbols' own frequencies, which travel along. Symbols of more than 255 different values go through `zstd`.

    body = 0 ‖ smallest symbol, i16 LE ‖ alphabet, u8 ‖ counts, u32 LE each ‖ words of the coder, u32 LE
         | 1 ‖ body of `zstd`
"""

from __future__ import annotations

import struct
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from fedpeft.codecs.base import MalformedPayload
from fedpeft.codecs.coders import LARGEST, Symbols
from fedpeft.codecs.coders.zstd import Zstd
from fedpeft.errors import PluginError

_HEAD = struct.Struct("<hB")
_MOST = 255  # values of an alphabet


class Ans:
    """See the module.

    Raises:
        PluginError: constriction is not installed (code `plugin.missing-package`).
    """

    name: ClassVar[str] = "ans"

    def __init__(self) -> None:
        try:
            import constriction
        except ImportError:
            raise PluginError(
                'the coder "ans" needs the package constriction',
                code="plugin.missing-package",
                allowed="zstd, which needs nothing",
                remedy='pip install "fedpeft[ans]" on the coordinator and on the clients',
            ) from None
        self._stream: Any = constriction.stream
        self._zstd = Zstd()

    def encode(self, symbols: Symbols) -> bytes:
        """See `Coder.encode`."""
        least, most = (int(symbols.min()), int(symbols.max())) if symbols.size else (0, 0)
        if most - least >= _MOST or symbols.size < 2:
            return b"\x01" + self._zstd.encode(symbols)
        counts = np.bincount(symbols - least, minlength=1)
        coder = self._stream.stack.AnsCoder()
        if len(counts) > 1:
            coder.encode_reverse((symbols - least).astype(np.int32), self._model(counts))
        words: bytes = coder.get_compressed().astype("<u4").tobytes()
        return b"\x00" + _HEAD.pack(least, len(counts)) + counts.astype("<u4").tobytes() + words

    def decode(self, body: bytes, size: int) -> Symbols:
        """See `Coder.decode`."""
        if body[:1] == b"\x01":
            return self._zstd.decode(body[1:], size)
        if len(body) < 1 + _HEAD.size or body[0]:
            raise MalformedPayload(self.name, "it has no head")
        least, alphabet = _HEAD.unpack_from(body, 1)
        place = 1 + _HEAD.size + 4 * alphabet
        sound = alphabet and least >= -LARGEST and least + alphabet - 1 <= LARGEST
        if not sound or place > len(body) or (len(body) - place) % 4:
            raise MalformedPayload(self.name, f"{alphabet} symbols from {least} in {len(body)} bytes")
        counts = np.frombuffer(body, "<u4", alphabet, 1 + _HEAD.size).astype(np.int64)
        if counts.sum() != size or not counts[0] or not counts[-1] or size < 2:
            raise MalformedPayload(self.name, f"its counts add up to {counts.sum()}", allowed=f"{size}")
        words = np.frombuffer(body, "<u4", offset=place).astype(np.uint32)
        if alphabet == 1:
            found, empty = np.zeros(size, dtype=np.int32), not words.size
        else:
            found, empty = self._symbols(words, counts, size)
        if not empty or (np.bincount(found, minlength=alphabet) != counts).any():
            raise MalformedPayload(self.name, "its words do not end where its symbols do")
        return found + np.int32(least)

    def _symbols(self, words: npt.NDArray[np.uint32], counts: npt.NDArray[np.int64], size: int) -> tuple[Symbols, bool]:
        try:
            coder = self._stream.stack.AnsCoder(words)
            return coder.decode(self._model(counts), size), bool(coder.is_empty())
        except ValueError as error:  # the last word of a stack is never 0
            raise MalformedPayload(self.name, str(error)) from None

    def _model(self, counts: npt.NDArray[np.int64]) -> Any:
        return self._stream.model.Categorical(counts / counts.sum(), perfect=False)

    def max_bytes(self, size: int) -> int:
        """See `Coder.max_bytes`."""
        return max(1 + self._zstd.max_bytes(size), 1 + _HEAD.size + 4 * _MOST + 4 * (size // 2 + 4))
