"""A frame: a protobuf header and one opaque body, and the limits that are checked before anything is believed.

    "FPF1" | header length, u32 LE | header | body

Names, shapes and dtypes of tensors are not in it: both sides know them from the job. Any bytes decode to a frame or to
a `MalformedFrame` that says what is wrong; nothing else is raised, and nothing is ever unpickled. The header holds the
body's SHA-256, which finds accidents and cut messages; it is no signature.

>>> frame = Frame(FrameKind.EVALUATION, "demo", 3, 0, ClientId("c07"), weight=12.0, metrics={"loss": 0.5})
>>> data = encode_frame(frame)
>>> data[:4], len(data) < 100
(b'FPF1', True)
>>> decode_frame(data, FrameLimits(max_body_bytes=1000)) == frame
True
>>> decode_frame(data + b"more", FrameLimits(max_body_bytes=1000))
Traceback (most recent call last):
fedpeft.wire.limits.MalformedFrame: malformed frame: the body is not the one that the header was made for
"""

from __future__ import annotations

import hashlib
import math
import re
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from google.protobuf.message import DecodeError

from fedpeft.types import ClientId, ClientInfo, NodeId, Plan
from fedpeft.wire import fedpeft_pb2 as pb
from fedpeft.wire.files import published
from fedpeft.wire.limits import REASON, FrameLimits, MalformedFrame, printable
from fedpeft.wire.sections import Section, check_claims, cut

_MAGIC = b"FPF1"
_PREFIX = struct.Struct("<4sI")
_CODE = re.compile(r"[a-z0-9]+([.-][a-z0-9]+)*")


class FrameKind(StrEnum):
    """What a frame is for. Coordinator to client: hello, train, evaluate. Back: the others."""

    HELLO = "hello"
    HELLO_REPLY = "hello_reply"
    TRAIN = "train"
    UPDATE = "update"
    EVALUATE = "evaluate"
    EVALUATION = "evaluation"
    REFUSAL = "refusal"


_KINDS = {pb.Kind.Value(kind.name): kind for kind in FrameKind}


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a client did not do what it was asked."""

    code: str  # as in errors, e.g. `client.base-lost`
    reason: str  # one line; cut at 2000 characters, and stripped of what cannot be printed, by the encoder


@dataclass(frozen=True, slots=True)
class Frame:
    """One message."""

    kind: FrameKind
    run: str
    round: int
    attempt: int
    client: ClientId
    body: bytes = b""
    codec: str = ""  # of the body
    version: int = 0  # broadcast that the body brings
    base: int = 0  # broadcast that the body is a difference from
    plan: Plan | None = None
    info: ClientInfo | None = None
    weight: float = 0.0  # examples behind a reply
    metrics: Mapping[str, float] = field(default_factory=dict)
    refusal: Refusal | None = None
    sections: tuple[Section, ...] = ()  # vectors beside the body
    memory: int = -1  # of an evaluate frame: the round whose memory of the client counts; -1 = none
    files: Mapping[str, str] = field(default_factory=dict)  # plug-in in a file, as the plan names it -> by content


def body_digest(body: bytes, sections: Iterable[Section] = ()) -> bytes:
    """SHA-256 of a body with its sections, as a header holds it."""
    digest = hashlib.sha256(body)
    for section in sections:
        digest.update(section.body)
    return digest.digest()


def encode_frame(frame: Frame, digest: bytes | None = None) -> bytes:
    """The bytes of a frame.

    Args:
        frame: to encode.
        digest: `body_digest` of its body and sections, where that is known: many frames may share them.

    Raises:
        ValueError: a field does not fit its type on the wire, e.g. a negative round, or is no valid text.
    """
    header = pb.Header(
        kind=frame.kind.name,
        run=frame.run,
        round=frame.round,
        attempt=frame.attempt,
        client=frame.client,
        codec=frame.codec,
        digest=digest or body_digest(frame.body, frame.sections),
        version=frame.version,
        base=frame.base,
        weight=frame.weight,
        metrics=dict(frame.metrics),
        sections=[pb.Section(name=s.name, codec=s.codec, bytes=len(s.body)) for s in frame.sections],
        memory=max(frame.memory, 0),
        files={**published(_named(frame)), **frame.files},
    )
    if frame.plan is not None:
        header.plan.CopyFrom(_plan_to_wire(frame.plan))
    if frame.info is not None:
        header.info.CopyFrom(_info_to_wire(frame.info))
    if frame.refusal is not None:
        header.refusal.CopyFrom(pb.Refusal(code=frame.refusal.code, reason=printable(frame.refusal.reason[:REASON])))
    packed = header.SerializeToString(deterministic=True)
    parts = [section.body for section in frame.sections]
    return b"".join((_PREFIX.pack(_MAGIC, len(packed)), packed, frame.body, *parts))


def decode_frame(data: bytes, limits: FrameLimits) -> Frame:
    """Read and check a frame.

    Raises:
        MalformedFrame: whatever is wrong with the bytes, by name; nothing else is raised for any bytes.
    """
    header, begin = _split(data, limits)
    body = data[begin:]
    if header.digest != body_digest(body):
        raise MalformedFrame("digest", "the body is not the one that the header was made for")
    _check_sections(header, limits)
    body, sections = cut(body, _claims(header), limits)
    return _frame_of(header, body, sections, limits)


def decode_header(data: bytes, limits: FrameLimits) -> Frame:
    """Read and check a frame whose body does not matter now: it is neither copied nor hashed, and left empty, as are
    its sections.

    Raises:
        MalformedFrame: as `decode_frame`, but for what is wrong with the body.
    """
    header, _ = _split(data, limits)
    _check_sections(header, limits)
    return _frame_of(header, b"", (), limits)


def _claims(header: pb.Header) -> list[tuple[str, str, int]]:
    return [(section.name, section.codec, section.bytes) for section in header.sections]


def _check_sections(header: pb.Header, limits: FrameLimits) -> None:
    check_claims(_claims(header), limits)
    _check_names((name for section in header.sections for name in (section.name, section.codec)), limits.max_name)


def _frame_of(header: pb.Header, body: bytes, sections: tuple[Section, ...], limits: FrameLimits) -> Frame:
    kind = _KINDS.get(header.kind)
    if kind is None:
        raise MalformedFrame("kind", f"unknown kind {header.kind}", allowed=", ".join(FrameKind))
    _check_names((header.run, header.client, header.codec), limits.max_name)
    _check_metrics(header.metrics, limits)
    if len(header.files) > limits.max_names:
        raise MalformedFrame("files", f"{len(header.files)} files", allowed=f"at most {limits.max_names}")
    _check_names((*header.files, *header.files.values()), limits.max_name)
    if not math.isfinite(header.weight):
        raise MalformedFrame("weight", f"weight is {header.weight}", allowed="a finite number")
    client = ClientId(header.client)
    return Frame(
        kind=kind,
        run=header.run,
        round=header.round,
        attempt=header.attempt,
        client=client,
        body=body,
        codec=header.codec,
        version=header.version,
        base=header.base,
        plan=_plan_from_wire(header, client, limits) if header.HasField("plan") else None,
        info=_info_from_wire(header.info, limits) if header.HasField("info") else None,
        weight=header.weight,
        metrics=dict(sorted(header.metrics.items())),  # protobuf's own order is that of a hash table
        refusal=_refusal_from_wire(header.refusal, limits) if header.HasField("refusal") else None,
        sections=sections,
        memory=header.memory if header.memory > 0 else -1,
        files=dict(sorted(header.files.items())),
    )


def _split(data: bytes, limits: FrameLimits) -> tuple[pb.Header, int]:
    """The header, and where the body begins."""
    if len(data) < _PREFIX.size:
        raise MalformedFrame("length", f"{len(data)} bytes are too few", allowed=f"at least {_PREFIX.size}")
    magic, length = _PREFIX.unpack_from(data)
    if magic != _MAGIC:
        raise MalformedFrame("magic", f"it begins with {magic!r}", allowed=repr(_MAGIC))
    if length > limits.max_header_bytes or length > len(data) - _PREFIX.size:
        raise MalformedFrame(
            "header", f"a header of {length} bytes", allowed=f"at most {limits.max_header_bytes}, all there"
        )
    size = len(data) - _PREFIX.size - length
    if size > limits.max_body_bytes:
        raise MalformedFrame("body", f"a body of {size} bytes", allowed=f"at most {limits.max_body_bytes}")
    header = pb.Header()
    try:
        header.ParseFromString(data[_PREFIX.size : _PREFIX.size + length])
    except (DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise MalformedFrame("header", f"the header is not protobuf: {error}") from None
    return header, _PREFIX.size + length


def _check_names(names: Iterable[str], limit: int) -> None:
    for name in names:
        if len(name) > limit or not (name == "" or name.isprintable()):
            raise MalformedFrame("name", f"name {name[:40]!r}", allowed=f"at most {limit} printable characters")


def _check_metrics(metrics: Mapping[str, float], limits: FrameLimits) -> None:
    if len(metrics) > limits.max_metrics:
        raise MalformedFrame("metrics", f"{len(metrics)} metrics", allowed=f"at most {limits.max_metrics}")
    _check_names(metrics, limits.max_name)
    for name, value in metrics.items():
        if not math.isfinite(value):
            raise MalformedFrame("metrics", f"metric {name} is {value}", allowed="a finite number")


def _named(frame: Frame) -> Iterable[str]:
    """The plug-ins that a coordinator names."""
    if frame.plan is not None:
        yield from (frame.plan.codec, frame.plan.auxiliary, frame.plan.optimizer, frame.plan.importance)
        yield from (section.codec for section in frame.sections)


def _plan_to_wire(plan: Plan) -> pb.Plan:
    return pb.Plan(
        seed=plan.seed,
        steps=plan.steps,
        batch_size=plan.batch_size,
        learning_rate=plan.learning_rate,
        weight_decay=plan.weight_decay,
        max_grad_norm=plan.max_grad_norm,
        optimizer=plan.optimizer,
        objective=plan.objective,
        objective_params=dict(plan.objective_params),
        rank=plan.rank,
        codec=plan.codec,
        version=plan.version,
        feedback=plan.feedback,
        layout=plan.layout,
        auxiliary=plan.auxiliary,
        pruning=plan.pruning,
        mask=plan.mask,
        importance=plan.importance,
        frozen=plan.frozen,
    )


def _plan_from_wire(header: pb.Header, client: ClientId, limits: FrameLimits) -> Plan:
    plan = header.plan
    names = (plan.optimizer, plan.objective, plan.codec, plan.layout, plan.auxiliary, plan.importance, *plan.frozen)
    _check_names(names, limits.max_name)
    _check_metrics(plan.objective_params, limits)
    for name in ("learning_rate", "weight_decay", "max_grad_norm"):
        value = getattr(plan, name)
        if not (math.isfinite(value) and value >= 0):
            raise MalformedFrame("plan", f"plan.{name} is {value}", allowed="a finite number, 0 or more")
    if not 0 <= plan.pruning < 1:  # NaN too
        raise MalformedFrame("plan", f"plan.pruning is {plan.pruning}", allowed="0 or more, less than 1")
    for name, least in (("steps", 1), ("batch_size", 1), ("rank", 1), ("feedback", -1)):
        if getattr(plan, name) < least:
            raise MalformedFrame("plan", f"plan.{name} is {getattr(plan, name)}", allowed=f"{least} or more")
    return Plan(
        run=header.run,
        round=header.round,
        attempt=header.attempt,
        client=client,
        seed=plan.seed,
        steps=plan.steps,
        batch_size=plan.batch_size,
        learning_rate=plan.learning_rate,
        weight_decay=plan.weight_decay,
        max_grad_norm=plan.max_grad_norm,
        optimizer=plan.optimizer,
        objective=plan.objective,
        objective_params=dict(sorted(plan.objective_params.items())),
        rank=plan.rank,
        codec=plan.codec,
        version=plan.version,
        feedback=plan.feedback,
        layout=plan.layout,
        auxiliary=plan.auxiliary,
        pruning=plan.pruning,
        mask=plan.mask,
        importance=plan.importance,
        frozen=tuple(plan.frozen),
    )


def _info_to_wire(info: ClientInfo) -> pb.Info:
    return pb.Info(
        client=info.client,
        node=info.node,
        examples=info.examples,
        device=info.device,
        memory_mb=info.memory_mb,
        versions=info.versions,
        codecs=info.codecs,
        objectives=info.objectives,
        layout=info.layout,
    )


def _info_from_wire(info: pb.Info, limits: FrameLimits) -> ClientInfo:
    for items in (info.versions, info.codecs, info.objectives):
        if len(items) > limits.max_names:
            raise MalformedFrame("info", f"a list of {len(items)} items", allowed=f"at most {limits.max_names}")
    _check_names((info.client, info.device, info.layout, *info.codecs, *info.objectives), limits.max_name)
    if not info.client:
        raise MalformedFrame("info", "a hello without a client", allowed="the client's id")
    return ClientInfo(
        client=ClientId(info.client),
        node=NodeId(info.node),
        examples=info.examples,
        device=info.device,
        memory_mb=info.memory_mb,
        versions=tuple(info.versions),
        codecs=tuple(info.codecs),
        objectives=tuple(info.objectives),
        layout=info.layout,
    )


def _refusal_from_wire(refusal: pb.Refusal, limits: FrameLimits) -> Refusal:
    if len(refusal.code) > limits.max_name or not _CODE.fullmatch(refusal.code):
        raise MalformedFrame(
            "refusal", f"a refusal of code {refusal.code[:40]!r}", allowed="a code such as client.layout"
        )
    if len(refusal.reason) > limits.max_reason:
        raise MalformedFrame(
            "refusal", f"a reason of {len(refusal.reason)} characters", allowed=f"at most {limits.max_reason}"
        )
    return Refusal(refusal.code, printable(refusal.reason))


__all__ = [
    "Frame",
    "FrameKind",
    "FrameLimits",
    "MalformedFrame",
    "Refusal",
    "Section",
    "body_digest",
    "decode_frame",
    "decode_header",
    "encode_frame",
]
