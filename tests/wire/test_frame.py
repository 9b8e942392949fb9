"""A frame comes back as it went; each thing that can be wrong with one has a name."""

import dataclasses
import doctest
import hashlib
import struct
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedpeft.types import ClientId, ClientInfo, NodeId, Plan
from fedpeft.wire import Frame, FrameKind, FrameLimits, MalformedFrame, Refusal, decode_frame, encode_frame
from fedpeft.wire import fedpeft_pb2 as pb
from fedpeft.wire import frame as frame_module
from fedpeft.wire.frame import body_digest, decode_header
from fedpeft.wire.sections import Section

LIMITS = FrameLimits(max_body_bytes=1000)

GOLDEN = (
    "46504631530000000804120464656d6f180320012a036330373204696e74383a20230d8358dc8e8890b4c58deeb62912ee2f"
    "20357ae92a5cc861b98e68fe31acb56100000000000000406a0f0a046c6f737311000000000000e03f626f6479"
)

PLAN = Plan(
    run="demo",
    round=3,
    attempt=1,
    client=ClientId("c07"),
    seed=2**64 - 1,
    steps=20,
    batch_size=16,
    learning_rate=1e-3,
    weight_decay=0.01,
    max_grad_norm=0.0,
    optimizer="sgd",
    objective="proximal",
    objective_params={"mu": 0.1},
    rank=4,
    codec="fp16",
    version=2,
    feedback=0,
    layout="ab" * 32,
    auxiliary="fp16",
    pruning=0.3,
    mask=b"\xf0\x0f",
    importance="lora-gradient",
    frozen=("lora_A", "encoder.layer.0"),
)
INFO = ClientInfo(
    client=ClientId("c07"),
    node=NodeId(2**64 - 1),
    examples=120,
    device="phone",
    memory_mb=4096,
    versions=(1, 3),
    codecs=("fp32", "int8"),
    objectives=("plain",),
    layout="ab" * 32,
)


def frame(kind=FrameKind.UPDATE, **fields):
    return replace(Frame(kind, "demo", 3, 1, ClientId("c07")), **fields)


def assemble(header, body=b"", digest=None):
    """A frame around any header, with an honest digest unless another is given."""
    header.digest = hashlib.sha256(body).digest() if digest is None else digest
    packed = header.SerializeToString()
    return b"FPF1" + struct.pack("<I", len(packed)) + packed + body


def header(**fields):
    return pb.Header(**({"kind": "UPDATE", "run": "demo", "client": "c07"} | fields))


def refusal_of(data, limits=LIMITS):
    with pytest.raises(MalformedFrame) as caught:
        decode_frame(data, limits)
    return caught.value


# --- there and back ---


@pytest.mark.parametrize("kind", FrameKind)
def test_every_kind(kind):
    assert decode_frame(encode_frame(frame(kind)), LIMITS) == frame(kind)


@pytest.mark.parametrize(
    "full",
    [
        frame(FrameKind.HELLO_REPLY, info=INFO),
        frame(
            FrameKind.TRAIN,
            plan=PLAN,
            version=2,
            base=1,
            body=b"codes",
            sections=(Section("c", "fp16", b"12"),),
            files={"/home/operator/own.py:Mine": "own.py:Mine#0123456789ab"},
        ),
        frame(FrameKind.UPDATE, body=bytes(1000), codec="int8", weight=120.0, metrics={"loss_first": 2.5, "a": -1.0}),
        frame(FrameKind.EVALUATE, version=7, base=0, body=b"codes", memory=6),
        frame(FrameKind.EVALUATION, weight=8.0, metrics={"loss": 0.5, "accuracy": 1.0}),
        frame(FrameKind.REFUSAL, refusal=Refusal("client.base-lost", "client c07 no longer holds broadcast 3")),
    ],
    ids=lambda full: full.kind.value,
)
def test_every_field(full):
    decoded = decode_frame(encode_frame(full), LIMITS)
    assert decoded == full
    assert encode_frame(decoded) == encode_frame(full)


def test_no_field_of_plan_or_info_is_left_behind():
    """Every field differs from its default above, so a field that the wire forgets fails `test_every_field`."""
    for full, required in ((PLAN, 0), (INFO, 0)):
        for field in dataclasses.fields(full):
            if field.default is not dataclasses.MISSING:
                assert getattr(full, field.name) != field.default, field.name
                required += 1
        assert required > 3


NAMES = st.text(st.characters(categories=["L", "N", "P", "S"]), min_size=1, max_size=20)
NUMBERS = st.floats(allow_nan=False, allow_infinity=False)
COUNTS = st.integers(0, 2**32 - 1)


@settings(max_examples=300, deadline=None)
@given(
    run=NAMES, client=NAMES, codec=NAMES, round=COUNTS, attempt=COUNTS, version=COUNTS, base=COUNTS,
    body=st.binary(max_size=1000), weight=NUMBERS, metrics=st.dictionaries(NAMES, NUMBERS, max_size=10),
)  # fmt: skip
def test_any_honest_frame(**fields):
    honest = Frame(FrameKind.UPDATE, **fields)
    assert decode_frame(encode_frame(honest), LIMITS) == honest


def test_equal_frames_give_equal_bytes():
    metrics = {f"metric_{number}": float(number) for number in range(40)}
    backwards = dict(reversed(metrics.items()))
    assert encode_frame(frame(metrics=metrics)) == encode_frame(frame(metrics=backwards))


def test_metrics_come_back_in_one_order():
    """What is made of them, a sum or a line of JSON, must not depend on a hash table."""
    metrics = {f"metric_{number:02d}": 0.0 for number in (7, 30, 2, 19, 11, 25)}
    assert list(decode_frame(encode_frame(frame(metrics=metrics)), LIMITS).metrics) == sorted(metrics)
    plan = replace(PLAN, objective_params=metrics)
    decoded = decode_frame(encode_frame(frame(FrameKind.TRAIN, plan=plan)), LIMITS).plan
    assert list(decoded.objective_params) == sorted(metrics)


def test_plan_takes_its_address_from_the_header():
    """Run, round, attempt and client are sent once: a plan cannot speak of another round than its frame."""
    other = replace(PLAN, run="other", round=9, attempt=9, client=ClientId("c99"))
    assert decode_frame(encode_frame(frame(FrameKind.TRAIN, plan=other)), LIMITS).plan == PLAN


def test_bytes_of_the_layout():
    data = encode_frame(frame(body=b"the body"))
    assert data[:4] == b"FPF1"
    (length,) = struct.unpack("<I", data[4:8])
    assert data[8 + length :] == b"the body"
    assert pb.Header.FromString(data[8 : 8 + length]).digest == hashlib.sha256(b"the body").digest()


def test_golden_frame():
    """The wire does not change unnoticed: this frame was written by the first release."""
    written = frame(body=b"body", codec="int8", weight=2.0, metrics={"loss": 0.5})
    assert encode_frame(written).hex() == GOLDEN
    assert decode_frame(bytes.fromhex(GOLDEN), LIMITS) == written


def test_field_of_a_later_release_is_ignored():
    later = header().SerializeToString() + bytes.fromhex("fa0704") + b"more"  # field 127, bytes
    assert decode_frame(assemble(pb.Header.FromString(later)), LIMITS).run == "demo"


@pytest.mark.parametrize("fields", [{"round": -1}, {"attempt": 2**32}, {"base": -1}, {"run": "\ud800"}])
def test_what_does_not_fit_is_not_encoded(fields):
    with pytest.raises(ValueError):
        encode_frame(frame(**fields))


def test_reason_of_a_refusal_always_travels():
    """A client that cannot say what went wrong would be a client that is silent."""
    reason = "first line\nsecond \ud800 \u202e" + "x" * 3000
    decoded = decode_frame(encode_frame(frame(FrameKind.REFUSAL, refusal=Refusal("client.x", reason))), LIMITS)
    assert decoded.refusal.reason == ("first line second    " + "x" * 3000)[:2000]


def test_example_in_the_docstring():
    assert doctest.testmod(frame_module) == doctest.TestResults(failed=0, attempted=5)


# --- what is wrong has a name ---


@pytest.mark.parametrize("data", [b"", b"FPF1", b"FPF1\x00\x00\x00"])
def test_too_short(data):
    assert refusal_of(data).code == "wire.length"


@pytest.mark.parametrize("magic", [b"FPF2", b"fpf1", b"\x80\x04\x95\x00", b"PK\x03\x04"])
def test_another_format(magic):
    fault = refusal_of(magic + encode_frame(frame())[4:])
    assert fault.code == "wire.magic"
    assert repr(magic) in fault.message


@pytest.mark.parametrize("length", [2**32 - 1, 2**31, 64 * 1024 + 1])
def test_header_that_claims_too_much(length):
    data = b"FPF1" + struct.pack("<I", length) + bytes(100)
    assert refusal_of(data).code == "wire.header"


def test_header_over_the_limit_is_refused_though_it_is_there():
    fat = encode_frame(frame(metrics={f"{number:0200d}": 0.0 for number in range(60)}))
    assert decode_frame(fat, LIMITS)
    assert refusal_of(fat, replace(LIMITS, max_header_bytes=10_000)).code == "wire.header"


def test_header_that_is_not_all_there():
    data = encode_frame(frame())
    for length in range(8, len(data)):
        assert refusal_of(data[:length]).code == "wire.header"


def test_body_over_the_limit():
    data = encode_frame(frame(body=bytes(1001)))
    fault = refusal_of(data)
    assert fault.code == "wire.body"
    assert "1001" in fault.message
    assert "1000" in fault.allowed


@pytest.mark.parametrize(
    "packed", [b"\xff" * 20, b"\x12\x05demo", b"\x12\x02\xff\xfe", b"\x0a" * 50, b"\x52" + b"\x7f" * 30]
)
def test_header_that_is_not_protobuf(packed):
    assert refusal_of(b"FPF1" + struct.pack("<I", len(packed)) + packed).code == "wire.header"


@pytest.mark.parametrize("kind", [0, 8, 1000, -1])
def test_unknown_kind(kind):
    fault = refusal_of(assemble(header(kind=kind)))
    assert fault.code == "wire.kind"
    assert "hello_reply" in fault.allowed


def test_more_files_than_a_plan_can_name():
    files = {f"{number}.py:A": "a.py:A#0123456789ab" for number in range(257)}
    assert refusal_of(assemble(header(files=files))).code == "wire.files"


@pytest.mark.parametrize("digest", [b"", bytes(32), hashlib.sha256(b"other").digest(), bytes(31), bytes(1000)])
def test_wrong_digest(digest):
    assert refusal_of(assemble(header(), b"body", digest)).code == "wire.digest"


@pytest.mark.parametrize("change", [lambda data: data[:-1], lambda data: data + b"x", lambda data: data[:-1] + b"X"])
def test_body_that_was_changed(change):
    assert refusal_of(change(encode_frame(frame(body=b"body")))).code == "wire.digest"


BAD_NAMES = ["x" * 257, "a\nb", "a\x00b", "\x1b[31m", "\u202e", "\ufeff", "\u2028"]


@pytest.mark.parametrize("name", BAD_NAMES, ids=ascii)
def test_names(name):
    plan, info = pb.Plan(steps=1, batch_size=1, rank=1), pb.Info(client="c07")
    bad = [header(**{field: name}) for field in ("run", "client", "codec")]
    bad += [header(metrics={name: 1.0})]
    for field in ("optimizer", "objective", "codec", "layout"):
        bad.append(header(plan=plan))
        setattr(bad[-1].plan, field, name)
    bad.append(header(plan=plan))
    bad[-1].plan.objective_params[name] = 1.0
    for field in ("client", "device", "layout"):
        bad.append(header(info=info))
        setattr(bad[-1].info, field, name)
    for field in ("codecs", "objectives"):
        bad.append(header(info=info))
        getattr(bad[-1].info, field).append(name)
    for item in bad:
        assert refusal_of(assemble(item)).code == "wire.name", item


def test_longest_names_pass():
    assert decode_frame(assemble(header(run="é" * 256)), LIMITS).run == "é" * 256


NOT_FINITE = [float("nan"), float("inf"), float("-inf")]


@pytest.mark.parametrize("value", NOT_FINITE)
def test_numbers_that_are_not_finite(value):
    assert refusal_of(assemble(header(weight=value))).code == "wire.weight"
    fault = refusal_of(assemble(header(metrics={"good": 1.0, "loss": value})))
    assert fault.code == "wire.metrics"
    assert "metric loss" in fault.message
    plan = pb.Plan(steps=1, batch_size=1, rank=1, objective_params={"mu": value})
    assert refusal_of(assemble(header(plan=plan))).code == "wire.metrics"


def test_too_many_metrics():
    metrics = {f"m{number}": 0.0 for number in range(65)}
    assert refusal_of(assemble(header(metrics=metrics))).code == "wire.metrics"
    metrics.popitem()
    assert len(decode_frame(assemble(header(metrics=metrics)), LIMITS).metrics) == 64


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *[
            (name, value)
            for name in ("learning_rate", "weight_decay", "max_grad_norm", "pruning")
            for value in [*NOT_FINITE, -1e-9]
        ],
        ("pruning", 1.0),
        ("steps", 0),
        ("batch_size", 0),
        ("rank", 0),
        ("feedback", -2),
    ],
)
def test_plans(field, value):
    plan = pb.Plan(**({"steps": 1, "batch_size": 1, "rank": 1} | {field: value}))
    fault = refusal_of(assemble(header(kind="TRAIN", plan=plan)))
    assert fault.code == "wire.plan"
    assert f"plan.{field} is {value}" in fault.message


@pytest.mark.parametrize("field", ["versions", "codecs", "objectives"])
def test_lists_in_a_hello(field):
    items = list(range(257)) if field == "versions" else ["x"] * 257
    assert refusal_of(assemble(header(info=pb.Info(client="c07", **{field: items})))).code == "wire.info"
    assert decode_frame(assemble(header(info=pb.Info(client="c07", **{field: items[1:]}))), LIMITS).info is not None


def test_hello_without_a_client():
    assert refusal_of(assemble(header(info=pb.Info(examples=3)))).code == "wire.info"


@pytest.mark.parametrize("code", ["", "no spaces", "UPPER", "a\nb", ".", "a.", "-a", "<b>", "x" * 257])
def test_code_of_a_refusal(code):
    assert refusal_of(assemble(header(refusal=pb.Refusal(code=code, reason="why")))).code == "wire.refusal"


def test_reason_of_a_refusal():
    assert refusal_of(assemble(header(refusal=pb.Refusal(code="a", reason="x" * 2001)))).code == "wire.refusal"
    decoded = decode_frame(assemble(header(refusal=pb.Refusal(code="a", reason="one\ntwo\x1b[31m"))), LIMITS)
    assert decoded.refusal.reason == "one two [31m"


# --- without the body ---


def test_a_header_alone_is_the_frame_without_its_body():
    whole = frame(FrameKind.TRAIN, body=b"codes", version=3, base=2, plan=PLAN)
    assert decode_header(encode_frame(whole), LIMITS) == replace(whole, body=b"")


def test_a_header_alone_is_checked_as_ever_and_its_body_is_not_looked_at():
    data = encode_frame(frame(body=b"codes"))
    assert decode_header(data[:-1] + b"!", LIMITS).body == b""
    with pytest.raises(MalformedFrame, match="the body is not the one"):
        decode_frame(data[:-1] + b"!", LIMITS)
    with pytest.raises(MalformedFrame, match="a body of 5 bytes"):
        decode_header(data, FrameLimits(max_body_bytes=4))
    with pytest.raises(MalformedFrame, match="unknown kind"):
        decode_header(assemble(header(kind=1000)), LIMITS)


def test_a_digest_that_is_known_gives_the_same_bytes():
    one = frame(body=b"codes")
    assert encode_frame(one, body_digest(b"codes")) == encode_frame(one)
