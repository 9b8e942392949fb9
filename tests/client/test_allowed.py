"""What a coordinator may name: never a path or a module that is not in the device's own run file."""

import dataclasses

import pytest
from tiny_text import write_run

from fedpeft.client.allowed import Allowed, as_asked
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


CODEC = "from fedpeft.codecs.int8 import Int8\n\n\nclass Mine(Int8):\n    pass\n"
KINDS = {"codec": "codec", "auxiliary": "codec", "optimizer": "optimizer", "importance": "importance"}


@pytest.fixture
def two(tmp_path):
    """The same file on both sides, at different paths: the coordinator's name, the device's, and that by content."""
    names = []
    for side in ("operator", "device"):
        (tmp_path / side).mkdir()
        (tmp_path / side / "own.py").write_text(CODEC)
        names.append(f"{tmp_path}/{side}/own.py:Mine")
    asked, own = names
    content = offer("codec", asked, tmp_path)
    (tmp_path / "operator" / "own.py").write_text("raise SystemExit('a file that only the coordinator named was run')")
    return asked, own, content


@pytest.mark.parametrize("key", KINDS)
def test_the_same_file_counts_wherever_it_lies(two, key):
    asked, own, content = two
    allowed = Allowed([(KINDS[key], own)])
    came = dataclasses.replace(frame(**{key: asked}), files={asked: content})
    found = allowed.here(came)
    allowed.check(found)
    assert getattr(found.plan, key) == own
    with pytest.raises(ClientFault, match="neither installed here nor"):  # it told no content
        allowed.check(allowed.here(dataclasses.replace(came, files={})))
    with pytest.raises(ClientFault, match="neither installed here nor") as fault:
        Allowed().check(Allowed().here(came))  # the run file of this device does not name it
    assert fault.value.remedy.startswith("copy the coordinator's own.py to this device")


def test_a_file_counts_for_what_the_run_file_names_it_for(two):
    asked, own, content = two
    allowed = Allowed([("optimizer", own)])
    with pytest.raises(ClientFault, match=r'codec "/.*own\.py:Mine" is neither installed'):
        allowed.check(allowed.here(dataclasses.replace(frame(codec=asked), files={asked: content})))


def test_another_version_of_the_file_is_refused_at_the_same_path_too(two):
    asked, own, content = two
    allowed = Allowed([("codec", own)])
    for name in (asked, own):
        came = dataclasses.replace(frame(codec=name), files={name: content[:-12] + "0123456789ab"})
        with pytest.raises(ClientFault, match=r"but another version of own\.py is"):
            allowed.check(allowed.here(came))


def test_vectors_beside_the_update_are_told_by_the_names_of_who_asked(two):
    asked, own, content = two
    allowed = Allowed([("codec", own)])
    came = frame(Section("c", asked, b"1"), codec=asked, auxiliary=asked)
    came = dataclasses.replace(came, files={asked: content})
    found = allowed.here(came)
    assert (found.plan.codec, found.sections) == (own, (Section("c", own, b"1"),))
    sections = (Section("c", own, b"2"), Section("scores", "fp16", b"3"))
    reply = Frame(FrameKind.UPDATE, "run", 1, 1, "c00", codec=own, sections=sections)
    reply = as_asked(reply, came, found)
    assert (reply.codec, [section.codec for section in reply.sections]) == (asked, [asked, "fp16"])


def test_plug_ins_of_the_run_file_are_those_that_its_plans_name(tmp_path):
    (tmp_path / "own.py").write_text("from fedpeft.codecs.int8 import Int8\n\n\nclass Mine(Int8):\n    pass\n")
    devices = [{"name": "a", "clients": 2, "codec": "own.py:Mine"}, {"name": "b", "clients": 1}]
    config = load_run_file(write_run(tmp_path, devices=devices))
    found = set(named_here(assemble(config)))
    assert ("codec", f"{tmp_path}/own.py:Mine") in found
    assert {("codec", config.codec.up), ("objective", "plain"), ("optimizer", "adamw")} <= found
