"""A client's checkpoint on its disk: written before what names it, found again, and missed where it was damaged."""

import shutil

import numpy as np
import pytest

from fedpeft.client import Agent, ClientStore, Home
from fedpeft.client.checkpoints import KEPT, Checkpoints
from fedpeft.codecs.coefficients import CoefficientDownlink, WholeNumbers
from fedpeft.codecs.weights import pack
from fedpeft.evaluation import Evaluation
from fedpeft.registry import build
from fedpeft.types import ClientId
from fedpeft.wire import Frame, FrameKind, FrameLimits, decode_frame, encode_frame
from fedpeft.zeroth.checkpoint import digest_of
from fedpeft.zeroth.coordinates import Coordinates
from fedpeft.zeroth.replica import Replica

K, E, D = 32, 4, 60
CLIENT = ClientId("c00")
LIMITS = FrameLimits(max_body_bytes=10_000)
COORDINATES = Coordinates(size=K, epochs=E, refresh=2, unit=1e-4, directions=1, seed=5)
INITIAL = np.random.default_rng(0).standard_normal(D).astype(np.float32)
DOWNLINK = CoefficientDownlink(K, 0, INITIAL)


def replica():
    return Replica(INITIAL.copy(), build("pool", "hadamard", {"size": K, "seed": 5}), COORDINATES)


def version(number):
    """All epochs before the last one are closed; each version moves the last a little."""
    values = np.random.default_rng(1).integers(-900, 900, E * K).astype(np.int32)
    values[-K:] += number
    return WholeNumbers(values)


def checkpoint(new, epochs=E - 1):
    theta = replica().after(DOWNLINK.dequantise(new), epochs)
    return DOWNLINK.encode_checkpoint(new, epochs, digest_of(theta), pack(theta, INITIAL))


class Device:
    """An agent over a disk; a restart is another agent over the same disk."""

    def __init__(self, folder):
        self.seen = []
        self.replica = replica()
        layout = COORDINATES.layout(self.replica.identity)
        self.store = ClientStore(folder, layout.size, downlink=DOWNLINK, run="run")

        def evaluate(theta, data):
            self.seen.append(self.replica.digest(theta))
            return Evaluation(0.5, 1.0, len(data))

        home, zero = Home([1], [1], self.store), np.zeros(layout.size, dtype=np.float32)
        about = (evaluate, zero, layout, {CLIENT: home}, LIMITS, DOWNLINK)
        self.agent = Agent(None, *about, begin_from=self.replica.begin_from)

    def ask(self, body, number, base=0):
        frame = Frame(FrameKind.EVALUATE, "run", number, 0, CLIENT, body=body, version=number, base=base)
        return decode_frame(self.agent.handle(CLIENT, encode_frame(frame)), LIMITS)


def difference(number, base):
    return DOWNLINK.encode_difference(version(number), version(base))


def model(number):
    return replica().digest(DOWNLINK.dequantise(version(number)))


def files(folder, kind):
    return sorted(path.name for path in folder.glob(f"{kind}-*.safetensors"))


def test_it_is_kept_and_differences_go_on_from_it_after_a_restart(tmp_path):
    assert Device(tmp_path).ask(checkpoint(version(1)), 1).kind is FrameKind.EVALUATION
    assert len(files(tmp_path, "checkpoint")) == 1
    again = Device(tmp_path)
    for number in (2, 3):
        assert again.ask(difference(number, number - 1), number, base=number - 1).kind is FrameKind.EVALUATION
    assert again.seen == [model(2), model(3)]
    assert len(files(tmp_path, "checkpoint")) == 1


def test_another_takes_its_place_and_the_bases_stays(tmp_path):
    device = Device(tmp_path)
    device.ask(checkpoint(version(1), epochs=2), 1)
    device.ask(checkpoint(version(2)), 2, base=1)  # the coordinator counts on version 1 until it has the answer
    assert len(files(tmp_path, "checkpoint")) == 2
    assert device.ask(difference(3, 1), 3, base=1).kind is FrameKind.EVALUATION
    assert len(files(tmp_path, "checkpoint")) == 1
    assert device.seen == [model(number) for number in (1, 2, 3)]


def test_all_coefficients_take_its_place(tmp_path):
    device = Device(tmp_path)
    device.ask(checkpoint(version(1)), 1)
    device.ask(DOWNLINK.encode_difference(version(2), DOWNLINK.zero(E * K)), 2)
    assert files(tmp_path, "checkpoint") == []
    assert device.seen == [model(1), model(2)]


@pytest.mark.parametrize("damage", ["bit", "cut", "gone", "other name"])
def test_one_that_was_damaged_is_asked_for_again(tmp_path, damage):
    Device(tmp_path).ask(checkpoint(version(1)), 1)
    (path,) = tmp_path.glob("checkpoint-*.safetensors")
    content = bytearray(path.read_bytes())
    if damage == "bit":
        content[-5] ^= 1
    path.write_bytes(content[:-9] if damage == "cut" else content)
    if damage == "gone":
        path.unlink()
    if damage == "other name":
        other = Device(tmp_path / "other")
        other.ask(checkpoint(version(1), epochs=2), 1)
        shutil.copy(next((tmp_path / "other").glob("checkpoint-*")), path)
    again = Device(tmp_path)
    refused = again.ask(difference(2, 1), 2, base=1)
    assert refused.refusal.code == "client.base-lost"
    name = DOWNLINK.checkpoint_of(DOWNLINK.decode_difference(checkpoint(version(1)), DOWNLINK.zero(E * K)))
    assert f"client c00 no longer holds checkpoint {name.hex()[:16]}" in refused.refusal.reason
    assert again.store.versions() == (1,)  # what was made of it is not kept
    assert again.ask(checkpoint(version(2)), 2).kind is FrameKind.EVALUATION
    assert again.seen == [model(2)]


def test_a_crash_before_the_broadcast_was_written_leaves_what_the_coordinator_counts_on(tmp_path, monkeypatch):
    Device(tmp_path).ask(checkpoint(version(1), epochs=2), 1)
    cut = Device(tmp_path)

    def crash(*args, **more):
        raise KeyboardInterrupt

    monkeypatch.setattr(cut.store, "keep_broadcast", crash)
    with pytest.raises(KeyboardInterrupt):
        cut.ask(checkpoint(version(2)), 2, base=1)
    again = Device(tmp_path)
    assert again.ask(difference(2, 1), 2, base=1).kind is FrameKind.EVALUATION
    assert again.seen == [model(2)]


def test_one_that_says_another_hash_is_refused_by_it(tmp_path):
    device = Device(tmp_path)
    theta = replica().after(DOWNLINK.dequantise(version(1)), 3)
    wrong = DOWNLINK.encode_checkpoint(version(1), 3, digest_of(INITIAL), pack(theta, INITIAL))
    refused = device.ask(wrong, 1)
    assert refused.refusal.code == "codec.malformed"
    assert f"θ_3 has the hash {digest_of(theta).hex()[:16]}" in refused.refusal.reason
    assert not tmp_path.exists() or list(tmp_path.iterdir()) == []


def test_memory_holds_those_that_were_used_last(tmp_path):
    own = Checkpoints(DOWNLINK, replica().begin_from)
    store, zero = ClientStore(tmp_path, E * K, downlink=DOWNLINK), DOWNLINK.zero(E * K)
    for epochs in (1, 2, 3):
        own.of(DOWNLINK.decode_difference(checkpoint(version(1), epochs), zero), zero, CLIENT, store)
    assert len(own._known) == KEPT
