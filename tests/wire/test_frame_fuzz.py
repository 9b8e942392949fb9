"""Any bytes are a sound frame or a named refusal: 5,000 mutants in the suite, as many as asked as a script.

    python tests/wire/test_frame_fuzz.py 100000 [SEED]

also bounds the address space (Linux), so that a mutant that talks the decoder into a large allocation ends the run.
"""

import hashlib
import math
import random
import struct
import sys
import time
import tracemalloc
from collections import Counter

import pytest
from google.protobuf.message import DecodeError
from hypothesis import given, settings
from hypothesis import strategies as st

from fedpeft.types import ClientId, ClientInfo, NodeId, Plan
from fedpeft.wire import Frame, FrameKind, FrameLimits, MalformedFrame, Refusal, decode_frame, encode_frame
from fedpeft.wire import fedpeft_pb2 as pb
from fedpeft.wire.sections import Section

LIMITS = FrameLimits(max_body_bytes=4096)
HEADER = 8  # bytes before the header: magic and length

_ADDRESS = ("demo", 3, 1, ClientId("c07"))
_PLAN = Plan(*_ADDRESS, seed=2**60, steps=20, batch_size=16, learning_rate=1e-3, objective_params={"mu": 0.1, "nu": 2})
_INFO = ClientInfo(
    ClientId("c07"), NodeId(9), 120, versions=(1, 3), codecs=("fp32", "int8"), objectives=("plain",), layout="ab" * 32
)
SEEDS = [
    encode_frame(frame)
    for frame in (
        Frame(FrameKind.HELLO, *_ADDRESS),
        Frame(FrameKind.HELLO_REPLY, *_ADDRESS, info=_INFO),
        Frame(FrameKind.TRAIN, *_ADDRESS, plan=_PLAN, body=bytes(range(256)), version=2, base=1),
        Frame(FrameKind.TRAIN, *_ADDRESS, plan=_PLAN, files={"/own.py:Mine": "own.py:Mine#0123456789ab"}),
        Frame(FrameKind.UPDATE, *_ADDRESS, body=bytes(300), codec="int8", weight=120, metrics={"a": 1.5, "b": -2.0}),
        Frame(
            FrameKind.UPDATE,
            *_ADDRESS,
            body=bytes(90),
            sections=(Section("c", "int8", bytes(70)), Section("m", "", b"")),
        ),
        Frame(FrameKind.EVALUATE, *_ADDRESS, body=bytes(9), memory=2),
        Frame(FrameKind.EVALUATION, *_ADDRESS, weight=8, metrics={f"metric_{k}": k / 7 for k in range(30)}),
        Frame(FrameKind.REFUSAL, *_ADDRESS, refusal=Refusal("client.layout", "another layout")),
    )
]
DOUBLES = [0.0, 1.0, -1.0, 5e-324, 1.7e308, math.nan, math.inf, -math.inf]
SPECIAL = [b"\x00", b"\xff", b"\x7f", b"\x80", b"\xff" * 10, struct.pack("<d", math.nan), struct.pack("<d", math.inf)]


def judge(data):
    """Decode; what comes out is sound, and stays the same when it is sent on. Returns the verdict."""
    try:
        frame = decode_frame(data, LIMITS)
    except MalformedFrame as refusal:
        return refusal.code
    numbers = [frame.weight, *frame.metrics.values()]
    texts = [frame.run, frame.client, frame.codec, *frame.metrics, *frame.files, *frame.files.values()]
    texts += [text for section in frame.sections for text in (section.name, section.codec)]
    assert len({section.name for section in frame.sections} - {""}) == len(frame.sections) <= LIMITS.max_sections
    if frame.plan is not None:
        numbers += [frame.plan.learning_rate, *frame.plan.objective_params.values()]
        texts += [frame.plan.optimizer, frame.plan.objective, frame.plan.layout, *frame.plan.objective_params]
        assert frame.plan.steps > 0
        assert frame.plan.batch_size > 0
    if frame.info is not None:
        texts += [frame.info.client, frame.info.device, *frame.info.codecs, *frame.info.objectives]
        assert len(frame.info.versions) <= LIMITS.max_names
    if frame.refusal is not None:
        texts += [frame.refusal.code, frame.refusal.reason[: LIMITS.max_name]]
    assert all(math.isfinite(number) for number in numbers)
    assert all(len(text) <= LIMITS.max_name and (text.isprintable() or not text) for text in texts)
    assert len(frame.metrics) <= LIMITS.max_metrics
    assert len(frame.body) + sum(len(section.body) for section in frame.sections) <= LIMITS.max_body_bytes
    assert decode_frame(encode_frame(frame), LIMITS) == frame
    return "sound"


def mutant(rng):
    return with_other_bytes(rng) if rng.random() < 0.5 else with_other_values(rng)


def with_other_values(rng):
    """A frame whose header is sound protobuf, with some fields of any message in it at values out of the ordinary."""
    data = rng.choice(SEEDS)
    (length,) = struct.unpack_from("<I", data, 4)
    header = pb.Header.FromString(data[HEADER : HEADER + length])
    for _ in range(rng.randint(1, 3)):
        message = rng.choice([header, header, header.plan, header.info, header.refusal, *header.sections])
        field = rng.choice(message.DESCRIPTOR.fields)
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            value = text_of(rng) if field.name == "files" else rng.choice(DOUBLES)
            entries = {text_of(rng): value for _ in range(rng.choice([1, 2, 70]))}
            getattr(message, field.name).update(entries)
        elif field.name == "sections":
            sizes = rng.choice([[3], [0, 200], [2**62], [1] * 40])
            message.sections.extend(pb.Section(name=text_of(rng), codec=text_of(rng), bytes=size) for size in sizes)
        elif hasattr(getattr(message, field.name), "extend"):
            value = {field.TYPE_STRING: text_of(rng)}.get(field.type, 7)
            getattr(message, field.name).extend([value] * rng.choice([1, 300]))
        elif field.type == field.TYPE_STRING:
            setattr(message, field.name, text_of(rng))
        elif field.type == field.TYPE_DOUBLE:
            setattr(message, field.name, rng.choice(DOUBLES))
        elif field.type in (field.TYPE_UINT32, field.TYPE_UINT64, field.TYPE_SINT64, field.TYPE_ENUM):
            setattr(message, field.name, rng.choice([0, 1, 7, 99, 2**31 - 1]))
    packed = header.SerializeToString()
    return data[:4] + struct.pack("<I", len(packed)) + packed + data[HEADER + length :]


def text_of(rng):
    return "".join(rng.choice("ab.-/ é中\x00\n\u202e") for _ in range(rng.choice([0, 1, 3, 9, 300])))


def with_other_bytes(rng):
    """A frame with a few flips, cuts, copies and splices; most times length and digest are then put right again."""
    data = bytearray(rng.choice(SEEDS))
    (header,) = struct.unpack_from("<I", data, 4)
    body = len(data) - HEADER - header
    for _ in range(rng.randint(1, 4)):
        if not data:
            break
        place, other = rng.randrange(len(data)), rng.choice(SEEDS)
        if rng.random() < 0.7:  # where it hurts: in the header
            place = min(len(data) - 1, rng.randrange(HEADER, HEADER + header))
        what = rng.randrange(7)
        if what == 0:
            data[place] ^= 1 << rng.randrange(8)
        elif what == 1:
            data[place] = rng.randrange(256)
        elif what == 2:
            del data[place : place + rng.randint(1, 20)]
        elif what == 3:
            data[place:place] = rng.choice(SPECIAL)
        elif what == 4:
            data[place : place + rng.randint(0, 9)] = rng.choice(SPECIAL)
        elif what == 5:  # splice: the rest comes from another frame
            data[place:] = other[rng.randrange(len(other)) :]
        else:  # repeat a piece
            data[place:place] = bytes(data[place : place + rng.randint(1, 40)]) * rng.randint(1, 30)
    if rng.random() < 0.9 and len(data) >= HEADER:
        struct.pack_into("<I", data, 4, max(0, len(data) - HEADER - body))
    return with_honest_digest(bytes(data)) if rng.random() < 0.8 else bytes(data)


def with_honest_digest(data):
    """The same frame with its body's digest, so that the checks behind that of the digest are reached too."""
    (length,) = struct.unpack_from("<I", data, 4) if len(data) >= HEADER else (0,)
    try:
        header = pb.Header.FromString(data[HEADER : HEADER + length])
    except DecodeError:
        return data
    header.digest = hashlib.sha256(data[HEADER + length :]).digest()
    packed = header.SerializeToString()
    return data[:4] + struct.pack("<I", len(packed)) + packed + data[HEADER + length :]


@pytest.mark.parametrize("seed", range(5))
def test_mutants(seed):
    rng = random.Random(seed)
    verdicts = Counter(judge(mutant(rng)) for _ in range(1000))
    # The mutants reach all of the decoder, not its first check only.
    assert verdicts.keys() >= {"sound"} | {
        f"wire.{what}"
        for what in (
            "magic",
            "header",
            "digest",
            "kind",
            "name",
            "metrics",
            "weight",
            "plan",
            "info",
            "refusal",
            "sections",
        )
    }
    assert verdicts["sound"] > 100


def test_every_truncation_of_every_kind():
    for data in SEEDS:
        for length in range(len(data)):
            assert judge(data[:length]) in {"wire.length", "wire.header", "wire.digest"}


def test_every_bit_of_every_header():
    for data in SEEDS:
        (header,) = struct.unpack_from("<I", data, 4)
        for place in range(HEADER + header):
            for bit in range(8):
                judge(data[:place] + bytes([data[place] ^ 1 << bit]) + data[place + 1 :])


@settings(max_examples=500, deadline=None)
@given(st.binary(max_size=200))
def test_random_headers(packed):
    judge(b"FPF1" + struct.pack("<I", len(packed)) + packed)


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=100))
def test_random_bytes(data):
    assert judge(data) != "sound"


def test_memory_is_bounded_by_what_arrived():
    """A megabyte of the most expensive headers: all refused, at the cost of one copy at most."""
    hostile = [
        b"FPF1" + struct.pack("<I", 2**32 - 1) + bytes(1 << 20),  # claims 4 GiB of header
        b"FPF1" + struct.pack("<I", 1 << 20) + b"\x6a\x00" * (1 << 19),  # half a million empty metrics
        b"FPF1" + struct.pack("<I", 100) + bytes(1 << 20),  # a body over the limit
        b"FPF1" + struct.pack("<I", 64 * 1024) + b"\x5a\x02\x3a\x00" * (16 * 1024),  # many empty names of codecs
    ]
    for data in hostile:
        tracemalloc.start()
        try:
            assert judge(data).startswith("wire.")
            assert tracemalloc.get_traced_memory()[1] < 4 << 20
        finally:
            tracemalloc.stop()


def main():
    import resource

    count, seed = int(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 0
    rng, verdicts, slowest = random.Random(seed), Counter(), 0.0
    judge(SEEDS[0])
    with open("/proc/self/statm") as pages:
        used = int(pages.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + (64 << 20), resource.RLIM_INFINITY))
    for _ in range(count):
        data = mutant(rng)
        began = time.perf_counter()
        verdicts[judge(data)] += 1
        slowest = max(slowest, time.perf_counter() - began)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    print(f"{count} mutants, slowest {slowest * 1e3:.1f} ms, peak {peak} MiB")
    for verdict, number in verdicts.most_common():
        print(f"{number:8}  {verdict}")


if __name__ == "__main__":
    main()
