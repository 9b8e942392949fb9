"""Rehearsed faults: what the `[[faults]]` tables of a run file do to a client's replies.

drop     the device falls silent: no reply, ever
crash    the ClientApp raises
corrupt  one byte of the reply's body is flipped
nan      the reply's update is not a number
slow     the reply takes `factor` times as long
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from fedpeft.config import FaultTable
from fedpeft.errors import ConfigError, closest
from fedpeft.types import ClientId
from fedpeft.wire.frame import Frame, FrameKind, FrameLimits, decode_frame, encode_frame


class Faults:
    """All faults of a run.

    Args:
        tables: as in the run file.
        clients: those that exist.

    Raises:
        ConfigError: a fault names a client that does not exist.
    """

    def __init__(self, tables: Sequence[FaultTable], clients: Sequence[ClientId]) -> None:
        self._faults: dict[tuple[ClientId, int], FaultTable] = {}
        known = frozenset(clients) if tables else frozenset()
        for table in tables:
            if table.client not in known:
                raise ConfigError(
                    f'faults.client = "{table.client}": there is no such client',
                    code="config.fault-client",
                    allowed=f"{clients[0]} to {clients[-1]}",
                    remedy=closest(table.client, clients) or "name one of these",
                )
            for number in table.rounds:
                self._faults[(ClientId(table.client), number)] = table

    def seconds(self, client: ClientId, frame: Frame, seconds: float) -> float:
        """What becomes of a reply's time."""
        fault = self._fault(client, frame)
        if fault is not None and fault.kind == "drop":
            return float("inf")
        return seconds * fault.factor if fault is not None and fault.kind == "slow" else seconds

    def distort(self, client: ClientId, asked: Frame, reply: bytes) -> bytes:
        """What becomes of a reply's bytes.

        Raises:
            RuntimeError: the rehearsed crash.
        """
        fault = self._fault(client, asked)
        if fault is None or fault.kind in ("drop", "slow"):
            return reply
        if fault.kind == "crash":
            raise RuntimeError(f"client {client} crashed (rehearsed)")
        if fault.kind == "corrupt":
            return reply[:-1] + bytes([reply[-1] ^ 0xFF])
        frame = decode_frame(reply, FrameLimits(max_body_bytes=len(reply)))
        # No codec encodes NaN: a faulty client writes the bytes itself.
        body = np.full(len(frame.body) // 4 + 1, np.nan, dtype="<f4").tobytes()[: len(frame.body)]
        return encode_frame(replace(frame, body=body))

    def _fault(self, client: ClientId, frame: Frame) -> FaultTable | None:
        return self._faults.get((client, frame.round)) if frame.kind is FrameKind.TRAIN else None
