"""The vectors beside θ and the delta: those that a strategy sends as sections of a frame, and those that it is sent.

Both ways they go through `codec.auxiliary`. What comes up is checked as a delta is: by name and size before anything is
decoded, then that it is finite, then its norm; whatever is wrong costs its client the update and nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from fedpeft.aggregation.guard import l2_norm
from fedpeft.codecs import fitted
from fedpeft.config import RunConfig
from fedpeft.errors import ClientFault, PluginError
from fedpeft.registry import build
from fedpeft.server.post import decoding
from fedpeft.strategies import Strategy
from fedpeft.types import ClientId, FloatArray, Layout
from fedpeft.wire.sections import Section


class Auxiliary:
    """The further vectors of one round.

    Args:
        strategy: what it sends and receives; its round is begun.
        config: `codec.auxiliary` and `limits.max_auxiliary_norm` count.
        layout: of every vector, s values.
    """

    def __init__(self, strategy: Strategy, config: RunConfig, layout: Layout) -> None:
        self.strategy = strategy
        self.size = layout.size
        self.codec_name = config.codec.auxiliary
        self.max_norm = config.limits.max_auxiliary_norm
        self.codec = fitted(build("codec", self.codec_name, {}), layout)
        self._sections: tuple[Section, ...] | None = None

    @property
    def asked_for(self) -> str:
        """The codec that a plan tells its client to use; empty where nothing is to come up."""
        return self.codec_name if self.strategy.receives else ""

    def sections(self) -> tuple[Section, ...]:
        """What goes down, encoded once for the whole round.

        Raises:
            PluginError: the strategy sends what it does not name, or a vector that is none.
        """
        if self._sections is None:
            vectors = self.strategy.auxiliary() if self.strategy.sends else {}
            self._sections = tuple(self._section(name, vectors[name]) for name in sorted(vectors))
        return self._sections

    def read(self, sections: tuple[Section, ...], client: ClientId) -> Mapping[str, FloatArray]:
        """The vectors that a reply brings, by name, each of shape (s,), finite and within the norm.

        Raises:
            ClientFault: others than the strategy receives, another codec, bytes that are none, or too large a norm.
        """
        wanted = sorted(self.strategy.receives)
        found = sorted(section.name for section in sections)
        if found != wanted:
            raise ClientFault(
                f"client {client}: its update brings the vectors {found}",
                code="update.sections",
                allowed=f"{wanted}: what the strategy receives",
                remedy="install the same fedpeft and plug-ins on both sides",
            )
        return {section.name: self._decoded(section, client) for section in sections}

    def _section(self, name: str, vector: FloatArray) -> Section:
        if name not in self.strategy.sends or vector.shape != (self.size,) or vector.dtype != np.float32:
            raise PluginError(
                f'strategy {type(self.strategy).__name__} sends "{name}", {vector.dtype} of shape {vector.shape}',
                code="plugin.strategy-sends",
                allowed=f"{', '.join(self.strategy.sends)}: float32 of shape ({self.size},)",
                remedy="correct its method auxiliary(), or its attribute sends",
            )
        return Section(name, self.codec_name, self.codec.encode(vector))

    def _decoded(self, section: Section, client: ClientId) -> FloatArray:
        most = self.codec.max_bytes(self.size)
        if section.codec != self.codec_name or len(section.body) > most:
            raise ClientFault(
                f'client {client} sent the vector "{section.name}" as {len(section.body)} bytes of codec '
                f"{section.codec!r}",
                code="codec.unexpected",
                allowed=f"at most {most} bytes of {self.codec_name!r}",
            )
        with decoding(client, self.codec_name, f'the vector "{section.name}"'):
            vector: FloatArray = self.codec.decode(section.body, self.size)
        norm = l2_norm(vector)
        if not norm <= self.max_norm:  # NaN too
            raise ClientFault(
                f'client {client}: its vector "{section.name}" has L2 norm {norm:.6g}',
                code="guard.auxiliary-norm",
                allowed=f"at most limits.max_auxiliary_norm = {self.max_norm:g}",
                remedy="raise limits.max_auxiliary_norm if such vectors are honest",
            )
        return vector
