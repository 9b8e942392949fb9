"""The committed protobuf code is what fedpeft.proto says, and its numbers are for ever."""

import re
import shlex
import subprocess
import sys
from importlib import metadata, util
from pathlib import Path

import pytest

from fedpeft.wire import FrameKind
from fedpeft.wire import fedpeft_pb2 as pb

WIRE = Path(pb.__file__).parent
PROTO = (WIRE / "fedpeft.proto").read_text()
GENERATOR = re.search(r"grpcio-tools (\S+), by", PROTO)[1]

FIELDS = re.compile(r"^  (repeated |map<string, )?(\w+)>? (\w+) = (\d+);", re.MULTILINE)


def declared():
    """(message, field, number) as written in the .proto, and (enum, name, number)."""
    for block in re.finditer(r"^message (\w+) \{\n(.*?)^\}", PROTO, re.MULTILINE | re.DOTALL):
        yield from ((block[1], field, int(number)) for _, _, field, number in FIELDS.findall(block[2]))
    block = re.search(r"^enum Kind \{\n(.*?)^\}", PROTO, re.MULTILINE | re.DOTALL)
    yield from (("Kind", name, int(number)) for name, number in re.findall(r"(\w+) = (\d+);", block[1]))


def test_the_code_has_the_fields_of_the_text():
    generated = {("Kind", name, number) for name, number in pb.Kind.items()}
    for name, message in pb.DESCRIPTOR.message_types_by_name.items():
        generated |= {(name, field.name, field.number) for field in message.fields}
    assert generated == set(declared())


def test_numbers_are_for_ever():
    """A frame written years ago must not be read as something else: add to this list, never change it."""
    numbers = {message: {} for message in ("Header", "Plan", "Info", "Section", "Refusal", "Kind")}
    for message, field, number in declared():
        numbers[message][number] = field
    assert list(numbers["Kind"].values()) == [
        "UNSPECIFIED", "HELLO", "HELLO_REPLY", "TRAIN", "UPDATE", "EVALUATE", "EVALUATION", "REFUSAL",
    ]  # fmt: skip
    assert numbers["Header"] == dict(
        enumerate(
            ["kind", "run", "round", "attempt", "client", "codec", "digest", "version", "base", "plan", "info",
             "weight", "metrics", "refusal", "sections", "memory", "files"],
            start=1,
        )
    )  # fmt: skip
    assert numbers["Plan"] == dict(
        enumerate(
            ["seed", "steps", "batch_size", "learning_rate", "weight_decay", "max_grad_norm", "optimizer", "objective",
             "objective_params", "rank", "codec", "version", "feedback", "layout", "auxiliary", "pruning", "mask",
             "importance", "frozen"],
            start=1,
        )
    )  # fmt: skip
    assert numbers["Info"] == dict(
        enumerate(
            ["client", "node", "examples", "device", "memory_mb", "versions", "codecs", "objectives", "layout"], start=1
        )
    )
    assert numbers["Section"] == {1: "name", 2: "codec", 3: "bytes"}
    assert numbers["Refusal"] == {1: "code", 2: "reason"}


def test_kinds_have_the_same_names_in_python():
    assert {kind.name for kind in FrameKind} == set(pb.Kind.keys()) - {"UNSPECIFIED"}


@pytest.mark.skipif(
    util.find_spec("grpc_tools") is None or metadata.version("grpcio-tools") != GENERATOR,
    reason=f"generating needs grpcio-tools {GENERATOR}, which is not installed",
)
def test_the_code_is_what_the_generator_writes(tmp_path):
    """Runs the command at the top of fedpeft.proto, into another folder."""
    command = re.search(r"python (-m grpc_tools\.protoc .*)$", PROTO, re.MULTILINE)[1]
    command = command.replace("out=fedpeft/wire", f"out={tmp_path}")
    subprocess.run([sys.executable, *shlex.split(command)], cwd=WIRE.parents[1], check=True)
    for name in ("fedpeft_pb2.py", "fedpeft_pb2.pyi"):
        assert (tmp_path / name).read_text() == (WIRE / name).read_text(), f"{name} is stale: generate it again"
