"""What a coordinator may name: never a path or a module that is not in the device's own run file."""

import dataclasses

import pytest
from tiny_text import write_run

from fedpeft.client.allowed import Allowed
from fedpeft.config import load_run_file
from fedpeft.errors import ClientFault
from fedpeft.plugin_files import offer
from fedpeft.simulation.federation import assemble
from fedpeft.simulation.wiring import named_here
from fedpeft.types import ClientId, Plan
from fedpeft.wire.frame import Frame, FrameKind
from fedpeft.wire.sections import Section

PLAN = Plan("run", 1, 1, ClientId("c00"), seed=1, steps=1, batch_size=1, learning_rate=0.1)
OTHERS = ["/tmp/mine.py:Rule", "sys:exit", "os:abort", "fedpeft.codecs.int8:Int8", "mine.py:Rule#0123456789ab"]


def frame(*sections, **plan):
    return Frame(FrameKind.TRAIN, "run", 1, 1, "c00", plan=dataclasses.replace(PLAN, **plan), sections=sections)


@pytest.mark.parametrize("key", ["codec", "auxiliary", "objective", "optimizer", "importance", "section"])
@pytest.mark.parametrize("name", OTHERS)
def test_a_path_or_a_module_of_the_coordinator_is_refused(key, name):
    asked = frame(Section("c", name, b"")) if key == "section" else frame(**{key: name})
    with pytest.raises(ClientFault, match="neither installed here nor in this device's run file") as fault:
        Allowed().check(asked)
    assert name in fault.value.message
    kind = {"auxiliary": "codec", "section": "codec"}.get(key, key)
    Allowed([(kind, name)]).check(asked)


@pytest.mark.parametrize("name", ["topk(0.1)+sys:exit", "sys:exit+int8", "topk(sys:exit)+int8", "rotate+./m.py:C"])
def test_no_part_of_a_composed_codec_is_one_either(name):
    assert not Allowed().has("codec", name)


def test_what_is_installed_composed_or_offered_passes(tmp_path):
    (tmp_path / "rule.py").write_text("class Rule:\n    pass\n")
    own = offer("objective", "rule.py:Rule", tmp_path)
    Allowed().check(frame(objective=own, codec="lgreco(bits=2)+zstd", auxiliary="fp16", importance="lora-gradient"))
    Allowed().check(frame(Section("c", "forget+topk(0.1)+sign", b""), optimizer="sgd", codec="uniform(1.2)+ans"))
    Allowed(optimizers="zeroth_optimizer").check(frame(optimizer="zo-adam"))
    Allowed().check(Frame(FrameKind.EVALUATE, "run", 1, 0, "c00"))


def test_plug_ins_of_the_run_file_are_those_that_its_plans_name(tmp_path):
    (tmp_path / "own.py").write_text("from fedpeft.codecs.int8 import Int8\n\n\nclass Mine(Int8):\n    pass\n")
    devices = [{"name": "a", "clients": 2, "codec": "own.py:Mine"}, {"name": "b", "clients": 1}]
    config = load_run_file(write_run(tmp_path, devices=devices))
    found = set(named_here(assemble(config)))
    assert ("codec", f"{tmp_path}/own.py:Mine") in found
    assert {("codec", config.codec.up), ("objective", "plain"), ("optimizer", "adamw")} <= found
