"""A client whose disk was mixed up: it says so, instead of training from garbage, and is then given a snapshot."""

import shutil

import numpy as np
import pytest

from fedpeft.client import Agent, ClientStore, Home
from fedpeft.codecs.broadcast import dequantise, encode_difference, quantise, zero_codes
from fedpeft.evaluation import Evaluation
from fedpeft.types import ClientId, Layout, TensorSpec
from fedpeft.wire import Frame, FrameKind, FrameLimits, decode_frame, encode_frame

SIZE = 100
CLIENT = ClientId("c00")
LAYOUT = Layout((TensorSpec("w", (SIZE,), 0),), SIZE, "1a" * 32)
LIMITS = FrameLimits(max_body_bytes=10_000)
INITIAL = np.linspace(-1, 1, SIZE, dtype=np.float32)
VERSIONS = [zero_codes(SIZE)] + [
    quantise(np.random.default_rng(number).normal(0, 0.1, SIZE).astype(np.float32)) for number in (1, 2, 3)
]


@pytest.fixture
def seen():
    """Every θ that the agent evaluated."""
    return []


@pytest.fixture
def agent(tmp_path, seen):
    store = ClientStore(tmp_path, SIZE, run="run")
    store.keep_broadcast(1, VERSIONS[1], also=())
    store.keep_broadcast(2, VERSIONS[2], also={1})

    def evaluate(theta, data):
        seen.append(theta)
        return Evaluation(0.5, 1.0, len(data))

    return Agent(None, evaluate, INITIAL, LAYOUT, {CLIENT: Home([1], [1], store)}, LIMITS)


def ask(agent, base, body=None):
    body = encode_difference(VERSIONS[3], VERSIONS[base]) if body is None else body
    frame = Frame(FrameKind.EVALUATE, "run", 3, 0, CLIENT, body=body, version=3, base=base)
    return decode_frame(agent.handle(CLIENT, encode_frame(frame)), LIMITS)


def test_files_that_changed_places(agent, seen, tmp_path):
    shutil.copy(tmp_path / "broadcast-000002.safetensors", tmp_path / "broadcast-000001.safetensors")
    reply = ask(agent, base=1)
    assert reply.kind is FrameKind.REFUSAL
    assert reply.refusal.code == "client.base-lost"
    assert reply.refusal.reason == "client c00 holds something else as broadcast 1"
    assert seen == []
    assert agent.homes[CLIENT].store.versions() == (1, 2)  # what was made of it is not kept

    assert ask(agent, base=0).kind is FrameKind.EVALUATION
    np.testing.assert_array_equal(seen[0], INITIAL + dequantise(VERSIONS[3]))


def test_one_bit_that_flipped(agent, tmp_path):
    path = tmp_path / "broadcast-000002.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(bytes(data))
    assert ask(agent, base=2).refusal.code == "client.base-lost"
    assert ask(agent, base=1).kind is FrameKind.EVALUATION


def test_snapshot_that_does_not_fit_is_not_the_disks_fault(agent):
    """Base 0 is derived by both sides: to ask for a snapshot again would never end."""
    body = encode_difference(VERSIONS[3], VERSIONS[1])
    assert ask(agent, base=0, body=body).refusal.code == "codec.wrong-base"
