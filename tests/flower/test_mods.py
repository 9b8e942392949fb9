"""Mods of a run file: what they see, in which order, and whose name an error bears."""

import pytest
from flwr.app import Message
from tiny import run_tiny

from fedpeft.config import parse_config
from fedpeft.config.loading import resolve_paths
from fedpeft.errors import ClientFault, ConfigError, PluginError, RoundError
from fedpeft.flower import compat
from fedpeft.flower.envelope import pack, unpack
from fedpeft.flower.mods import REFUSED, load_mods, surround
from fedpeft.journal import EventKind, Journal

MODS = """
from pathlib import Path
from flwr.clientapp.mod import LocalDpMod

def logging_mod(message, context, call_next):
    reply = call_next(message, context)
    with (Path(__file__).parent / "seen").open("a") as file:
        file.write(f"{context.node_config['client']} {message.metadata.message_type}\\n")
    return reply

def first(message, context, call_next):
    context.state.setdefault("order", []).append("first in")
    reply = call_next(message, context)
    context.state["order"].append("first out")
    return reply

def second(message, context, call_next):
    context.state["order"].append("second in")
    return call_next(message, context)

def refuses_training(message, context, call_next):
    if message.metadata.message_type == "train" and context.node_config["client"] == "c01":
        raise PermissionError("not today")
    return call_next(message, context)

def forgets(message, context, call_next):
    call_next(message, context)

def passes(message, context, call_next):
    return call_next(message, context)

def narrow(message, context):
    return message

class Counting:
    def __call__(self, message, context, call_next):
        return call_next(message, context)

counting = Counting()
noise = LocalDpMod(1.0, 1.0, 1.0, 1e-5)
Noise = LocalDpMod
number = 3
"""


@pytest.fixture
def mods(tmp_path):
    (tmp_path / "mods.py").write_text(MODS)
    return lambda *names: [f"{tmp_path}/mods.py:{name}" for name in names]


class Context:
    def __init__(self):
        self.state = {}
        self.node_config = {"client": "c00"}


def message(frame=b"a frame"):
    compat.ensure_identity()
    made = Message(pack(frame), dst_node_id=3, message_type="train")
    compat.set_message_id(made, "1")
    return made


def echo(asked, context):
    return Message(pack(unpack(asked) + b" and its reply"), reply_to=asked)


def test_the_first_of_the_list_is_the_outermost(mods):
    context = Context()
    reply = surround(echo, load_mods(mods("first", "second")))(message(), context)
    assert unpack(reply) == b"a frame and its reply"
    assert context.state["order"] == ["first in", "second in", "first out"]


def test_flower_s_own_size_mods_read_our_messages(caplog):
    reply = surround(echo, load_mods(["message-size", "flwr.clientapp.mod:arrays_size_mod"]))(message(), Context())
    assert unpack(reply) == b"a frame and its reply"
    assert "Incoming message size" in caplog.text
    assert "{'f': {'elements': 7" in caplog.text  # the frame's bytes


@pytest.mark.parametrize("name", [*(f"flwr.clientapp.mod:{name}" for name in REFUSED)])
def test_flower_s_mods_that_read_weights_are_refused_with_the_reason(name):
    with pytest.raises(PluginError, match="one frame of encoded bytes") as error:
        load_mods([name])
    assert error.value.code == "mod.refused"
    assert f'client.mods: "{name}"' in error.value.message


@pytest.mark.parametrize(
    ("name", "code", "said"),
    [
        ("noise", "mod.refused", "cannot work"),
        ("Noise", "mod.refused", "cannot work"),
        ("Counting", "mod.not-callable", "is a class, not a function"),
        ("number", "mod.not-callable", "is a int"),
        ("narrow", "mod.not-callable", r"takes \(message, context\)"),
        ("missing", "plugin.no-class", "has no missing"),
    ],
)
def test_what_is_no_mod_is_named(mods, name, code, said):
    with pytest.raises(PluginError, match=said) as error:
        load_mods(mods(name))
    assert error.value.code == code
    assert name in error.value.message


def test_a_mod_s_error_bears_its_name_and_the_agent_s_does_not(mods):
    context = Context()
    context.node_config["client"] = "c01"
    with pytest.raises(ClientFault, match=r'mods.py:refuses_training" raised PermissionError: not today') as fault:
        surround(echo, load_mods(mods("passes", "refuses_training")))(message(), context)
    assert fault.value.code == "mod.failed"
    with pytest.raises(ClientFault, match=r'mods.py:forgets" returned a NoneType'):
        surround(echo, load_mods(mods("forgets", "passes")))(message(), Context())

    def broken(asked, context):
        raise LookupError("the agent's own")

    with pytest.raises(LookupError, match="the agent's own"):
        surround(broken, load_mods(mods("passes", "counting")))(message(), Context())


@pytest.mark.slow
def test_a_run_s_messages_pass_through_its_mods_and_end_in_the_same_adapter(tmp_path, mods):
    plain = run_tiny(tmp_path / "plain")
    watched = run_tiny(tmp_path / "watched", client__mods=["message-size", *mods("logging_mod")])
    assert watched.adapter_hash == plain.adapter_hash
    seen = (tmp_path / "seen").read_text().splitlines()
    assert len([line for line in seen if line.endswith(" query")]) == 5
    assert len([line for line in seen if line.endswith(" train")]) == 4 * 3
    assert "c00 evaluate" in seen


@pytest.mark.slow
def test_a_mod_that_fails_costs_its_client_the_round_and_is_named_in_the_journal(tmp_path, mods):
    result = run_tiny(tmp_path, ask=5, client__mods=mods("refuses_training"))
    with Journal.read(result.folder) as journal:
        failed = list(journal.events(EventKind.FAILED))
    assert {event.client for event in failed} == {"c01"}
    assert all("refuses_training" in event.payload["reason"] for event in failed)


def test_mods_are_found_beside_the_run_file(tmp_path):
    table = {
        "run": {"name": "a", "rounds": 1},
        "model": {"source": "m"},
        "round": {"ask": 1},
        "devices": [{"name": "d", "clients": 2}],
        "client": {"mods": ["mods.py:first", "message-size"]},
    }
    config = resolve_paths(parse_config(table, origin="a"), tmp_path)
    assert config.client.mods == [f"{tmp_path}/mods.py:first", "message-size"]
    table["client"]["mods"] = [3]
    with pytest.raises(ConfigError, match=r"client\.mods"):
        parse_config(table, origin="a")


def test_a_mod_that_is_not_there_ends_the_run_before_it_starts(tmp_path):
    with pytest.raises((PluginError, RoundError), match="massage-size") as error:
        run_tiny(tmp_path, client__mods=["massage-size"])
    assert error.value.remedy == 'did you mean "message-size"?'
