"""Vectors beside θ and the delta: what goes down, and that a client which sends others costs only itself."""

from __future__ import annotations

import numpy as np
import pytest
from fake_fleet import SIZE, FakeFleet, FakeRun, answer, delta_of

from fedpeft.codecs.fp32 import Fp32
from fedpeft.errors import PluginError
from fedpeft.journal import EventKind
from fedpeft.strategies import FedAvg, Scaffold
from fedpeft.wire.frame import FrameKind
from fedpeft.wire.sections import Section

NAN = np.full(SIZE, np.nan, dtype="<f4").tobytes()


def change(node, number):
    return (delta_of(node, number) * 3).astype(np.float32)


def reply(frame, node, sections):
    return answer(
        frame, FrameKind.UPDATE, body=Fp32().encode(delta_of(node, frame.round)), codec="fp32", weight=10.0,
        sections=sections,
    )  # fmt: skip


def fleet_of(clients, **bad):
    """A fleet of SCAFFOLD clients; `bad`: client -> the sections that it sends instead."""
    fleet = FakeFleet(clients)
    for one in fleet.clients:
        one.info = {"objectives": ("plain", "scaffold")}
        one.train = lambda frame, one=one: reply(
            frame, one.node, bad.get(one.name) or (Section("c", "fp32", change(one.node, frame.round).tobytes()),)
        )
    return fleet


def run(fleet, folder, **options):
    return FakeRun(fleet, folder, Scaffold(), **{"codec__auxiliary": "fp32", **options})


def test_the_vector_goes_down_as_it_stands_after_the_round_before(tmp_path):
    fleet = fleet_of(3)
    one = run(fleet, tmp_path)
    one.run()
    sums = {0: np.zeros(SIZE)}
    for number in (1, 2, 3):
        sums[number] = sums[number - 1] + sum(change(node, number).astype(np.float64) for node in range(3))
    for frame in fleet.asked:
        assert frame.plan.auxiliary == "fp32"
        assert frame.plan.objective == "scaffold"
        if frame.round == 1:
            assert frame.sections == (), "all zero: nothing to send"
        else:
            (section,) = frame.sections
            c = np.frombuffer(section.body, "<f4")
            np.testing.assert_allclose(c, sums[frame.round - 1] / 3, rtol=1e-6, atol=1e-7)


def test_other_strategies_send_and_ask_for_nothing(tmp_path):
    fleet = FakeFleet(2)
    FakeRun(fleet, tmp_path).run()
    assert {(frame.sections, frame.plan.auxiliary) for frame in fleet.asked} == {((), "")}


GOOD = change(2, 1).tobytes()
BAD = {
    "another name": ((Section("d", "fp32", GOOD),), "update.sections"),
    "one too many": ((Section("c", "fp32", GOOD), Section("d", "fp32", GOOD)), "update.sections"),
    "another codec": ((Section("c", "int8", GOOD),), "codec.unexpected"),
    "too long": ((Section("c", "fp32", GOOD + b"1234"),), "codec.unexpected"),
    "too short": ((Section("c", "fp32", GOOD[:-4]),), "codec.malformed"),
    "not finite": ((Section("c", "fp32", NAN),), "codec.malformed"),
    "too large": ((Section("c", "fp32", np.full(SIZE, 1e6, dtype="<f4").tobytes()),), "guard.auxiliary-norm"),
}


@pytest.mark.parametrize("case", BAD)
def test_one_bad_client_costs_only_itself(tmp_path, case):
    sections, code = BAD[case]
    bad = run(fleet_of(3, c02=sections), tmp_path / "bad")
    theta = bad.run()
    refused = bad.told(EventKind.REFUSED, "code", "reason")
    assert {(client, found) for _, client, found, _ in refused} == {("c02", code)}
    assert all("client c02" in reason for *_, reason in refused)
    silent = fleet_of(3)
    silent["c02"].train = lambda frame: RuntimeError("it is gone")
    without = run(silent, tmp_path / "without")
    assert theta.tobytes() == without.run().tobytes()
    assert bad.strategy.state()["controls"].tobytes() == without.strategy.state()["controls"].tobytes()


def test_an_update_without_the_vector_is_refused(tmp_path):
    fleet = fleet_of(2)
    fleet["c01"].train = lambda frame: reply(frame, 1, ())
    one = run(fleet, tmp_path)
    one.run()
    assert {code for *_, code in one.told(EventKind.REFUSED, "code")} == {"update.sections"}


def test_a_vector_that_nobody_asked_for_is_refused(tmp_path):
    fleet = FakeFleet(2)
    fleet["c01"].train = lambda frame: reply(frame, 1, (Section("c", "fp32", GOOD),))
    one = FakeRun(fleet, tmp_path)
    one.run()
    assert {(c, code) for _, c, code in one.told(EventKind.REFUSED, "code")} == {("c01", "update.sections")}


@pytest.mark.parametrize(
    ("info", "message"),
    [
        ({"objectives": ("plain",)}, 'objective "scaffold"'),
        ({"objectives": ("scaffold",), "codecs": ("fp32",)}, "int8"),
    ],
)
def test_a_client_that_lacks_a_half_or_the_codec_is_left_out_by_name(tmp_path, info, message):
    fleet = fleet_of(2)
    fleet["c01"].info = info
    one = run(fleet, tmp_path, codec__auxiliary="int8")
    fleet["c00"].train = lambda frame: reply(frame, 0, (Section("c", "int8", bytes(4 * -(-SIZE // 64) + SIZE)),))
    one.run()
    ((_, client, reason),) = one.told(EventKind.HELLO_FAILED, "reason")
    assert client == "c01"
    assert message in reason


@pytest.mark.parametrize("lost", ["memory_lost", "residual_lost"])
def test_what_a_client_lost_is_noted(tmp_path, lost):
    fleet = FakeFleet(2)
    fleet["c01"].train = lambda frame: answer(
        frame, FrameKind.UPDATE, body=Fp32().encode(delta_of(1, frame.round)), codec="fp32", weight=10.0,
        metrics={lost: 1.0},
    )  # fmt: skip
    one = FakeRun(fleet, tmp_path)
    one.run()
    events = one.journal.events(EventKind.ACCEPTED)
    assert {event.client for event in events if event.payload.get(lost)} == {"c01"}


class Sends(FedAvg):
    sends = ("c",)

    def __init__(self, vectors):
        super().__init__()
        self.vectors = vectors

    def auxiliary(self):
        return self.vectors


@pytest.mark.parametrize(
    "vectors",
    [{"d": np.zeros(SIZE, dtype=np.float32)}, {"c": np.zeros(SIZE)}, {"c": np.zeros(3, dtype=np.float32)}],
    ids=["a name that it does not tell", "float64", "another size"],
)
def test_a_strategy_that_sends_what_is_no_vector_ends_the_run_with_its_name(tmp_path, vectors):
    with pytest.raises(PluginError, match=r'strategy Sends sends "[cd]"') as error:
        FakeRun(FakeFleet(2), tmp_path, Sends(vectors)).run()
    assert error.value.code == "plugin.strategy-sends"
