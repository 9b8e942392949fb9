"""What a client remembers from round to round beside its residual: its private tensors, and its client half's vectors.

    memory of the round that the plan names ─┬─ private part ── with the shared start ──> θ ──┐
                                             └─ vectors ──────> client half <── sections ─────┤
                                                                    │                      trainer
    memory of this round <── private part after training, and what the half makes of what it sent

The plan names the last round that was folded in. So the memory that a round left behind counts only once the server has
taken that round's update: a round that was dropped, or that a crash took back, is as if it had not been.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from fedpeft.adapters.sharing import Sharing
from fedpeft.client.store import ClientStore
from fedpeft.codecs import Codec, fitted
from fedpeft.errors import ClientFault
from fedpeft.registry import build, load
from fedpeft.training import TrainingJob, TrainingResult
from fedpeft.training.objectives import ClientHalf, half_of
from fedpeft.types import FloatArray, Plan
from fedpeft.wire.sections import Section

_PRIVATE = "private"
_HALF = "half."


@dataclass(frozen=True, slots=True)
class Work:
    """A job, and what its client must know of it afterwards."""

    job: TrainingJob
    half: ClientHalf | None  # not the one that trains: it knows the contract, and makes the next memory
    vectors: Mapping[str, FloatArray]  # the half's memory as the round begins, each of shape (s,)
    lost: bool = False  # the memory that the plan names is not there: the client began anew


class ClientMemory:
    """Opens and settles the rounds of all clients of an agent.

    Args:
        sharing: which part of θ travels, s values, and which stays, p values.
        initial: the private part as it begins, shape (p,), on every client.
    """

    def __init__(self, sharing: Sharing, initial: FloatArray) -> None:
        self.sharing = sharing
        self.initial = initial
        self._decoded: dict[str, tuple[Section, FloatArray]] = {}  # of each name the last: a cohort shares one

    def open(
        self, plan: Plan, shared: FloatArray, data: Any, store: ClientStore, sections: tuple[Section, ...]
    ) -> Work:
        """The work that a plan asks for.

        Args:
            plan: of this client.
            shared: the shared part of the start, shape (s,).
            data: the client's examples.
            store: the client's disk.
            sections: that came with the broadcast.

        Raises:
            ClientFault: a section that the objective does not receive, or that is none.
        """
        half = half_of(build("objective", plan.objective, plan.objective_params))
        received = self._received(plan, half, sections)
        kept, lost = self._recall(store, plan.feedback, half)
        names = half.remembers if half is not None else ()
        vectors = {name: kept[_HALF + name] for name in names}
        job = TrainingJob(
            plan,
            self.sharing.join(shared, kept[_PRIVATE]),
            data,
            {name: self.sharing.spread(vector) for name, vector in received.items()},
            {name: self.sharing.spread(vector) for name, vector in vectors.items()},
        )
        return Work(job, half, vectors, lost)

    def settle(self, work: Work, result: TrainingResult, store: ClientStore) -> tuple[Section, ...]:
        """Keep the memory of a trained round; returns what the client half sends.

        Raises:
            ClientFault: it sends values that are not finite, or not what it says that it sends.
        """
        plan, half = work.job.plan, work.half
        assert result.delta is not None
        memory: dict[str, FloatArray] = {}
        sections: list[Section] = []
        if half is not None:
            sent: dict[str, FloatArray] = {}
            for name in half.sends:
                section, sent[name] = self._encoded(plan, name, result.sent)
                sections.append(section)
            new = half.remember(work.vectors, sent, self.sharing.shared_of(result.delta))
            memory = {_HALF + name: np.asarray(new[name], dtype=np.float32) for name in half.remembers}
        if not self.sharing.is_whole:
            memory[_PRIVATE] = self.sharing.private_of(work.job.start) + self.sharing.private_of(result.delta)
        if memory:
            store.keep_memory(plan.round, memory, also={plan.feedback})
        return tuple(sections)

    def whole(self, shared: FloatArray, store: ClientStore, round_number: int) -> FloatArray:
        """A client's own θ, shape (d,): the shared part with what it holds private under a round."""
        if self.sharing.is_whole:
            return shared
        kept, _ = self._recall(store, round_number, None)
        return self.sharing.join(shared, kept[_PRIVATE])

    def _recall(
        self, store: ClientStore, round_number: int, half: ClientHalf | None
    ) -> tuple[dict[str, FloatArray], bool]:
        """The memory of a round, and whether it is lost; the initial one where there is none."""
        memory = {_PRIVATE: self.initial}
        for name in half.remembers if half is not None else ():
            memory[_HALF + name] = np.zeros(self.sharing.shared.size, dtype=np.float32)
        wanted = {name: vector.shape for name, vector in memory.items() if vector.size}
        if round_number < 0 or not wanted:
            return memory, False
        kept = store.memory(round_number) or {}
        if any(name not in kept or kept[name].shape != shape for name, shape in wanted.items()):
            return memory, True
        return memory | {name: kept[name] for name in wanted}, False

    def _received(self, plan: Plan, half: ClientHalf | None, sections: tuple[Section, ...]) -> dict[str, FloatArray]:
        names = tuple(half.receives) if half is not None else ()
        received = {}
        for section in sections:
            if section.name not in names:
                raise ClientFault(
                    f'client {plan.client} was sent a vector "{section.name}", which its objective '
                    f'"{plan.objective}" does not receive',
                    code="client.section",
                    allowed=", ".join(names) or "no further vectors",
                    remedy="install the same fedpeft and plug-ins on both sides",
                )
            known = self._decoded.get(section.name)
            if known is None or known[0] != section:
                known = self._decoded[section.name] = (section, self._decode(section))
            received[section.name] = known[1]
        return received

    def _decode(self, section: Section) -> FloatArray:
        codec, size = self._codec(section.codec), self.sharing.shared.size
        if len(section.body) > codec.max_bytes(size):
            raise ClientFault(
                f'the vector "{section.name}" has {len(section.body)} bytes of codec {section.codec!r}',
                code="codec.unexpected",
                allowed=f"at most {codec.max_bytes(size)} bytes",
            )
        vector: FloatArray = codec.decode(section.body, size)
        return vector

    def _encoded(self, plan: Plan, name: str, sent: Mapping[str, FloatArray]) -> tuple[Section, FloatArray]:
        """A vector as it is sent, and as the server will decode it."""
        vector, size = sent.get(name), self.sharing.shared.size
        shared = None if vector is None else self.sharing.shared_of(vector)
        if shared is None or shared.shape != (size,) or not np.isfinite(shared).all():
            raise ClientFault(
                f'client {plan.client}: its objective "{plan.objective}" made no finite vector "{name}" '
                f"of {size} values in round {plan.round}",
                code="client.not-finite",
                remedy="lower local.learning_rate, or look at this client's data",
            )
        codec = self._codec(plan.auxiliary)
        body = codec.encode(shared)
        return Section(name, plan.auxiliary, body), codec.decode(body, size)

    def _codec(self, name: str) -> Codec:
        return fitted(load("codec", name)(), self.sharing.shared)


__all__ = ["ClientMemory", "Work"]
