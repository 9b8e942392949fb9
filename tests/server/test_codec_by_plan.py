"""A reply is read by the codec that its own plan named: that of its class of devices, or what was chosen for it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from fake_fleet import FakeFleet, FakeRun, answer, delta_of

from fedpeft.journal import EventKind
from fedpeft.registry import build
from fedpeft.strategies import FedAvg
from fedpeft.wire.frame import FrameKind

HAS = ("fp32", "int8", "fp16", "sign", "topk")


def by_plan(node, told=None):
    """An honest client: it encodes by its plan, or by `told`."""

    def train(frame):
        name = told or frame.plan.codec
        body = build("codec", name, {}).encode(delta_of(node, frame.round))
        return answer(frame, FrameKind.UPDATE, body=body, codec=name, weight=10.0, metrics={"loss_last": 0.5})

    return train


def fleet_of(clients=3):
    fleet = FakeFleet(clients)
    for client in fleet.clients:
        client.train = by_plan(client.node)
        client.info = {"codecs": HAS}
    return fleet


class Dealing(FedAvg):
    """Gives every client another codec in every round, as a scheduler would."""

    codecs = ("fp16", "topk(0.5)+sign", "fp32")

    def plan(self, plan, info):
        return replace(plan, codec=self.codecs[(plan.round + int(info.client[1:])) % 3])


def test_a_codec_by_client_and_round(tmp_path):
    fleet = fleet_of()
    run = FakeRun(fleet, tmp_path, Dealing(), run__rounds=3)
    run.run()
    asked = {(frame.round, frame.client): frame.plan.codec for frame in fleet.asked}
    assert set(asked.values()) == set(Dealing.codecs)
    for kind in (EventKind.ASKED, EventKind.ACCEPTED):
        told = {(e.round, e.client): e.payload.get("codec", "fp32") for e in run.journal.events(kind)}
        assert told == asked


def test_another_codec_than_planned_costs_that_client(tmp_path):
    fleet = fleet_of()
    fleet["c01"].train = by_plan(1, "int8")
    run = FakeRun(fleet, tmp_path, Dealing(), run__rounds=1)
    run.run()
    ((_, client, code),) = run.told(EventKind.REFUSED, "code")
    assert (client, code) == ("c01", "codec.unexpected")
    assert len(run.told(EventKind.ACCEPTED)) == 2


def test_the_guard_looks_at_what_any_codec_made(tmp_path):
    fleet = fleet_of()

    def huge(frame):
        body = build("codec", frame.plan.codec, {}).encode(np.full(64, 6e4, np.float32))
        return answer(frame, FrameKind.UPDATE, body=body, codec=frame.plan.codec, weight=10.0)

    fleet["c02"].train = huge
    run = FakeRun(fleet, tmp_path, Dealing(), run__rounds=3)
    run.run()
    assert [(client, code) for _, client, code in run.told(EventKind.REFUSED, "code")] == [("c02", "guard.norm")] * 3


def test_who_lacks_the_codec_of_its_class_or_of_broadcasts_is_left_out_by_name(tmp_path):
    fleet = fleet_of()
    devices = [{"name": "default", "clients": 2}, {"name": "phone", "clients": 1, "codec": "topk(0.5)+sign"}]
    fleet["c00"].info = {"codecs": ("fp32",)}
    fleet["c01"].info = {"codecs": ("fp32", "rotate", "int4"), "device": "phone"}
    fleet["c02"].info = {"codecs": ("fp32", "rotate", "int4")}
    run = FakeRun(fleet, tmp_path, run__rounds=1, codec__down="rotate+int4", devices=devices)
    run.run()
    reasons = dict(run.told(EventKind.HELLO_FAILED, "reason")[k][1:] for k in range(2))
    assert reasons == {
        "c00": 'it lacks the codec "rotate", of "rotate+int4"',
        "c01": 'it lacks the codec "topk", of "topk(0.5)+sign"',
    }
