"""The agent: a frame in, a frame out. One agent may stand for many clients, each with its own home.

A round on the device, as data flows:

    frame -> difference -> codes of version v (kept) -> θ = θ_0 + decode(codes) -> trainer -> Δ
    Δ + residual of the round that the plan names -> codec -> body;  the new residual is kept under this round

What a client remembers beyond that (private tensors, the vectors of a client half) is the matter of `client.memory`.

Whatever goes wrong on one client comes back as a refusal that says why; nothing raises for bad input.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from fedpeft.adapters.ranks import truncate
from fedpeft.adapters.sharing import Sharing
from fedpeft.client.allowed import Allowed, as_asked
from fedpeft.client.checkpoints import Checkpoints
from fedpeft.client.evaluating import metrics_of
from fedpeft.client.judging import judge_of
from fedpeft.client.memory import ClientMemory, Work
from fedpeft.client.pruning import check_mask, compensate_held, scores_of
from fedpeft.client.starts import Starts
from fedpeft.client.store import ClientStore
from fedpeft.codecs import Codec, fitted
from fedpeft.codecs.broadcast import Int8Downlink, WrongBase
from fedpeft.codecs.coefficients import CoefficientDownlink
from fedpeft.codecs.compose import parts_here
from fedpeft.codecs.downlink import Downlink
from fedpeft.codecs.searching import Searched, choice_of, is_searching
from fedpeft.errors import ClientFault, ModelError, PluginError
from fedpeft.evaluation import Evaluation
from fedpeft.plugin_files import offered
from fedpeft.pruning.sent import Sent, still_places
from fedpeft.pruning.units import Units
from fedpeft.registry import build, load, names
from fedpeft.training import Trainer, TrainingResult
from fedpeft.types import ClientId, ClientInfo, FloatArray, Held, Layout, NodeId
from fedpeft.wire.frame import Frame, FrameKind, FrameLimits, Refusal, decode_frame, encode_frame
from fedpeft.wire.sections import Section
from fedpeft.zeroth.checkpoint import CHECKPOINT

INT8 = Int8Downlink()
NO_SECTIONS: tuple[Section, ...] = ()


@dataclass(frozen=True, slots=True)
class Home:
    """What is a client's own: its data, its disk, its device."""

    train: Any  # data sets as `Task.encode` returns them
    test: Any
    store: ClientStore
    device: str = "default"
    memory_mb: int = 0
    validation: Any = ()  # put aside from what it trains on, for a codec that searches; may be empty


@dataclass(frozen=True, slots=True)
class _Ahead:
    """A frame that was opened, and perhaps trained, before it was handed over."""

    data: bytes
    asked: Frame  # as it came
    frame: Frame  # with plug-ins under the names that they have here
    work: Work | None = None
    result: TrainingResult | None = None


class Agent:
    """Serves the clients at home on this device.

    Args:
        trainer: trains many clients at once.
        evaluate: θ, data -> evaluation.
        initial: θ_0, shape (s,), derived from the run's seed on both sides: the part of it that is shared.
        layout: of that part, s values.
        homes: the clients served here.
        limits: on frames that come in.
        downlink: whose codes broadcasts are; None: the plain vector.
        memory: knows which part of θ is private; default: none is.
        mods: what surrounds it in a ClientApp; see `fedpeft.flower.mods`.
        allowed: what plans may name; default: what is built in or installed.
        begin_from: of a zeroth-order run: told coefficients and the checkpoint that they name, before `evaluate`.
        units: heads and channels of the model, where plans may do without some; None: they may not.
        merged: components of every LoRA layer, its last, that nobody trains.
        loss: θ, data -> mean loss; what a codec that searches is judged by. None: such a codec is not searched.
    """

    def __init__(
        self,
        trainer: Trainer,
        evaluate: Callable[[FloatArray, Any], Evaluation],
        initial: FloatArray,
        layout: Layout,
        homes: Mapping[ClientId, Home],
        limits: FrameLimits,
        downlink: Downlink | None = INT8,
        memory: ClientMemory | None = None,
        mods: Sequence[Callable[..., Any]] = (),
        allowed: Allowed | None = None,
        begin_from: Callable[[FloatArray, FloatArray], None] | None = None,
        units: Units | None = None,
        merged: int = 0,
        loss: Callable[[FloatArray, Any], float] | None = None,
    ) -> None:
        self.trainer = trainer
        self.evaluate = evaluate
        self.starts = Starts(initial, downlink)
        self.layout = layout
        self.homes = homes
        self.limits = limits
        self.downlink = downlink
        self.memory = memory or ClientMemory(Sharing(layout), np.empty(0, dtype=np.float32))
        self.mods = mods
        self.allowed = allowed or Allowed()
        self.checkpoints: Checkpoints | None = None
        if isinstance(downlink, CoefficientDownlink) and begin_from is not None:
            self.checkpoints = Checkpoints(downlink, begin_from)
        self.units = units
        self.loss = loss
        self.sent = Sent(layout, units, merged)
        self._ahead: dict[ClientId, _Ahead] = {}  # one a client at most: what is never asked for stays small

    def handle(self, client: ClientId, data: bytes) -> bytes:
        """Answer one frame for one client."""
        ahead = self._ahead.pop(client, None)
        try:
            if ahead is None or ahead.data != data:
                ahead = self._open(data)
        except ClientFault as fault:
            return encode_frame(_refuse(Frame(FrameKind.REFUSAL, "", 0, 0, client), fault))
        frame = ahead.frame
        try:
            # The coordinator does not know who lives here.
            stranger = frame.kind is FrameKind.HELLO and not frame.client
            if frame.client != client and not stranger:
                raise ClientFault(
                    f"client {client} was sent a frame for client {frame.client}",
                    code="client.other-client",
                    remedy="check how nodes are mapped to clients",
                )
            return encode_frame(as_asked(self._answer(client, ahead), ahead.asked, frame))
        except ClientFault as fault:
            return encode_frame(_refuse(frame, fault))

    def train_ahead(self, requests: Sequence[tuple[ClientId, bytes]]) -> None:
        """Train the clients of several frames together; `handle` then finds their results.

        Frames that are not sound are left for `handle` to refuse, and so is whatever crashes: `handle` meets it again,
        with that client alone.
        """
        jobs = []
        for client, data in requests:
            with suppress(Exception):
                ahead = self._open(data)
                frame = ahead.frame
                if frame.kind in (FrameKind.TRAIN, FrameKind.EVALUATE) and frame.plan and frame.client == client:
                    work = self._work(client, frame)
                    jobs.append(work.job)
                    self._ahead[client] = replace(ahead, work=work)
        with suppress(Exception):
            for result in self.trainer.run(jobs):
                ahead = self._ahead[result.plan.client]
                if ahead.frame.plan == result.plan:  # else a second frame for this client stands behind it
                    self._ahead[result.plan.client] = replace(ahead, result=result)

    def _open(self, data: bytes) -> _Ahead:
        asked = decode_frame(data, self.limits)
        return _Ahead(data, asked, self.allowed.here(asked))

    def _answer(self, client: ClientId, ahead: _Ahead) -> Frame:
        frame, home = ahead.frame, self.homes[client]
        if frame.kind is FrameKind.HELLO:
            info = ClientInfo(
                client=client,
                node=NodeId(0),  # the coordinator knows the node that it asked
                examples=len(home.train),
                device=home.device,
                memory_mb=home.memory_mb,
                versions=home.store.of(frame.run).versions(),
                codecs=parts_here(),
                objectives=(*names("objective"), *offered("objective")),
                layout=self.layout.digest,
            )
            return _reply(frame, FrameKind.HELLO_REPLY, info=info)
        if frame.kind is FrameKind.EVALUATE:
            if frame.plan is None:
                start, checkpoint = self._start(client, frame)
                theta = self.memory.whole(start, home.store.of(frame.run), frame.memory)
            else:  # after steps of the client's own, which stay here
                work, delta, _ = self._trained(client, ahead)
                checkpoint = work.job.received.get(CHECKPOINT)
                whole, merged = self.memory.sharing.whole, self.sent.merged
                theta = truncate(work.job.start, whole, frame.plan.rank, merged) + delta
            if self.checkpoints is not None and checkpoint is not None:
                self.checkpoints.begin_from(theta, checkpoint)
            found = self.evaluate(theta, home.test)
            metrics = metrics_of(found, home.train, home.test)
            return _reply(frame, FrameKind.EVALUATION, weight=float(found.examples), metrics=metrics)
        if frame.kind is FrameKind.TRAIN:
            return self._train(client, ahead)
        raise ClientFault(
            f"client {client} does not answer frames of kind {frame.kind}",
            code="client.kind",
            allowed="hello, train, evaluate",
            remedy="install the same fedpeft on both sides",
        )

    def _train(self, client: ClientId, ahead: _Ahead) -> Frame:
        work, delta, result = self._trained(client, ahead)
        plan = work.job.plan
        store, codec = self.homes[client].store.of(plan.run), build("codec", plan.codec, {})
        metrics = {**result.metrics, "memory_lost": 1.0} if work.lost else dict(result.metrics)
        if result.scalars is not None:
            # Each belongs to a direction of its own, so what the codec loses of one is owed to none of the next.
            body, sections = codec.encode(result.scalars), NO_SECTIONS
        else:
            residual = store.residual(plan.feedback) if plan.feedback >= 0 else None
            if residual is None:
                residual = np.zeros(self.layout.size, dtype=np.float32)
                metrics |= {"residual_lost": 1.0} if plan.feedback >= 0 else {}
            portion = self.sent.of(plan)
            codec = fitted(codec, portion.layout)
            codec = self._judged(codec, work, delta, portion.places)
            body, left = compensate_held(codec, self.memory.sharing.shared_of(delta), residual, portion.places)
            metrics |= choice_of(codec)
            sections = (*self.memory.settle(work, result, store), *scores_of(result, self.units))
            store.keep_residual(plan.round, left, also={plan.feedback})
        return _reply(
            ahead.frame,
            FrameKind.UPDATE,
            body=body,
            codec=plan.codec,
            weight=float(len(self.homes[client].train)),
            metrics=metrics,
            sections=sections,
        )

    def _judged(self, codec: Codec, work: Work, delta: FloatArray, held: Held | None) -> Codec:
        """The codec, with a judge if it searches and there are examples to judge by."""
        loss, data = self.loss, self.homes[work.job.plan.client].validation
        if loss is None or not len(data) or not is_searching(codec):
            return codec
        about = (work.job, delta, self.memory.sharing, held, lambda theta: loss(theta, data), self.sent.merged)
        return Searched(codec, judge_of(*about))

    def _trained(self, client: ClientId, ahead: _Ahead) -> tuple[Work, FloatArray, TrainingResult]:
        """The training that a frame's plan asks for: the work, its delta, shape (d,), and all that came of it."""
        work, result = ahead.work, ahead.result
        if work is None or result is None:
            work = self._work(client, ahead.frame)
            (result,) = self.trainer.run([work.job])
        if result.fault is not None:
            raise result.fault
        assert result.delta is not None
        if not np.isfinite(result.delta).all():
            raise ClientFault(
                f"client {client}: local training of round {ahead.frame.round} ended in numbers that are not finite",
                code="client.not-finite",
                allowed="a finite delta",
                remedy="lower local.learning_rate or look at this client's data",
            )
        delta: FloatArray = result.delta
        if result.plan.frozen or self.sent.merged:  # a decay of weights knows of no turns
            still = still_places(self.memory.sharing.whole, result.plan.frozen, self.sent.merged)
            delta = np.where(still, np.float32(0), delta)
            result = replace(result, delta=delta)
        return work, delta, result

    def _work(self, client: ClientId, frame: Frame) -> Work:
        plan = frame.plan
        if plan is None:
            raise ClientFault(f"client {client} was asked to train without a plan", code="client.no-plan")
        if plan.layout != self.layout.digest:
            raise ClientFault(
                f"client {client}: its adapter has layout {self.layout.digest[:12]}, the plan's is {plan.layout[:12]}",
                code="client.layout",
                remedy="use the same model, adapter settings and library versions on both sides",
            )
        self.allowed.check(frame)
        check_mask(plan, self.units)
        try:
            fitted(build("codec", plan.codec, {}), self.sent.of(plan).layout)  # before any work is done
            load("objective", plan.objective)
            load(self.allowed.optimizers, plan.optimizer)
            if plan.auxiliary:
                fitted(build("codec", plan.auxiliary, {}), self.layout)
            home = self.homes[client]
            start, checkpoint = self._start(client, frame)
            work = self.memory.open(plan, start, home.train, home.store.of(plan.run), frame.sections)
            if checkpoint is None:
                return work
            return replace(work, job=replace(work.job, received={**work.job.received, CHECKPOINT: checkpoint}))
        except (PluginError, ModelError) as error:
            code = "client.no-plugin" if isinstance(error, PluginError) else "client.frozen"
            raise ClientFault(f"client {client}: {error.message}", code=code, remedy=error.remedy) from error

    def _start(self, client: ClientId, frame: Frame) -> tuple[FloatArray, FloatArray | None]:
        """θ of the version that the frame brings, shape (d,), and the checkpoint that it names (zeroth order).

        The version is kept on disk.
        """
        if self.downlink is None:
            return self.starts.plain(frame.body), None
        store = self.homes[client].store.of(frame.run)
        base = self.starts.zero if frame.base == 0 else store.broadcast(frame.base)
        if base is None:
            raise _base_lost(f"client {client} no longer holds broadcast {frame.base}")
        try:
            codes, start = self.starts.versioned(frame.body, frame.version, frame.base, base)
        except WrongBase as error:
            if frame.base == 0:  # both sides derive it: the body itself is wrong
                raise
            raise _base_lost(f"client {client} holds something else as broadcast {frame.base}") from error
        checkpoint = None if self.checkpoints is None else self.checkpoints.of(codes, base, client, store)
        if frame.version > 0:
            store.keep_broadcast(frame.version, codes, also={frame.base})
        return start, checkpoint


def _base_lost(message: str) -> ClientFault:
    remedy = "none needed: it is given a snapshot the next time it is asked"
    return ClientFault(message, code="client.base-lost", remedy=remedy)


def _reply(frame: Frame, kind: FrameKind, **fields: Any) -> Frame:
    return Frame(kind, frame.run, frame.round, frame.attempt, frame.client, **fields)


def _refuse(frame: Frame, fault: ClientFault) -> Frame:
    return _reply(frame, FrameKind.REFUSAL, refusal=Refusal(fault.code, fault.message))
