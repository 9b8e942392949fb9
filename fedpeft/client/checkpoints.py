"""The θ_e that a zeroth-order client holds in the place of old coefficients: from its broadcast, or from its disk."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Any

from fedpeft.client.store import ClientStore
from fedpeft.codecs.coefficients import CoefficientDownlink
from fedpeft.errors import ClientFault
from fedpeft.types import ClientId, FloatArray
from fedpeft.zeroth.room import kept

KEPT = 2
"""Checkpoints that stay in memory for the next client or round: those that were used last."""


class Checkpoints:
    """The checkpoints of all clients of an agent.

    Args:
        downlink: of the run.
        begin_from: told coefficients and the θ_e that they name before a model is made of them in this process.
    """

    def __init__(self, downlink: CoefficientDownlink, begin_from: Callable[[FloatArray, FloatArray], None]) -> None:
        self.downlink = downlink
        self.begin_from = begin_from
        self._known: OrderedDict[bytes, FloatArray] = OrderedDict()

    def of(self, codes: Any, base: Any, client: ClientId, store: ClientStore) -> FloatArray | None:
        """The θ_e that a version names, shape (d,), not to be modified; None where it names none.

        One that has just come is kept on disk, beside that of the version's base; others are forgotten.

        Args:
            codes: of the version.
            base: of the version that it was told from.
            client: whose they are.
            store: its disk.

        Raises:
            ClientFault: the client no longer holds it, or holds something else under its name.
        """
        name, before = self.downlink.checkpoint_of(codes), self.downlink.checkpoint_of(base)
        if codes.theta is not None:
            store.keep_checkpoint(name, codes.theta, also={before})
        else:
            store.forget_checkpoints(but={name, before})
        if not name:
            return None
        theta = self._known.get(name) if codes.theta is None else codes.theta
        if theta is None:
            found = store.checkpoint(name)
            theta = None if found is None else kept(found)
        if theta is None or self.downlink.initial is None or theta.shape != self.downlink.initial.shape:
            raise ClientFault(
                f"client {client} no longer holds checkpoint {name.hex()[:16]}, or something else under its name",
                code="client.base-lost",
                remedy="none needed: it is sent everything the next time it is asked",
            )
        self._known[name] = theta
        self._known.move_to_end(name)
        while len(self._known) > KEPT:
            self._known.popitem(last=False)
        return theta
