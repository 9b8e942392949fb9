"""Flower's internals, one test for each that we touch: when Flower moves one, the test that fails says which."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from flwr.app import Message, RecordDict

from fedpeft.errors import ConfigError
from fedpeft.flower import compat
from fedpeft.flower.envelope import pack, unpack


@pytest.fixture(autouse=True)
def _identity():
    compat.assume_identity(1)


def message(frame=b"frame"):
    return Message(pack(frame), dst_node_id=7, message_type="train")


def test_internal_task_identity():
    compat.assume_identity(5)
    assert message().metadata.run_id == 5
    assert message().metadata.src_node_id == 1


def test_internal_run_create_empty():
    assert compat.empty_run(9).run_id == 9


def test_internal_message_id():
    one = message()
    compat.set_message_id(one, "m1")
    assert one.metadata.message_id == "m1"
    assert Message(RecordDict(), reply_to=one).metadata.reply_to_message_id == "m1"


def test_internal_deflate_and_inflate_of_nested_objects():
    one = message(b"x" * 5000)
    compat.set_message_id(one, "m1")
    received, count = compat.through_wire(one)
    assert received is not one
    assert unpack(received) == b"x" * 5000
    assert received.metadata.message_id == "m1"
    assert received.metadata.dst_node_id == 7
    assert 5000 < count < 5000 + 2048


def test_the_installed_version_is_supported():
    assert compat.check_version().startswith("1.41.")


@pytest.mark.parametrize("installed", ["1.40.9", "1.42.0", "2.0.0", "1.4.1"])
def test_another_version_is_a_named_error(monkeypatch, installed):
    monkeypatch.setattr(compat, "version", lambda name: installed)
    with pytest.raises(ConfigError, match=rf"Flower {installed} is installed, fedpeft needs 1\.41\.x") as caught:
        compat.check_version()
    assert caught.value.code == "flower.version"
    assert "pip install" in caught.value.remedy


@pytest.mark.parametrize("allowed", ["1.41.0", "1.41.7.post1"])
def test_every_patch_of_it_is_supported(monkeypatch, allowed):
    monkeypatch.setattr(compat, "version", lambda name: allowed)
    assert compat.check_version() == allowed


SWITCHES = {
    "FLWR_TELEMETRY_ENABLED": "0",
    "FLWR_DISABLE_UPDATE_CHECK": "1",
    "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
}


@pytest.mark.system
@pytest.mark.parametrize("given", [{}, dict.fromkeys(SWITCHES, "mine")], ids=["unset", "set"])
def test_importing_us_keeps_flower_off_the_network_unless_told_otherwise(given):
    """The switches must be set before Flower is imported, which reads them once."""
    code = f"import sys, os; import fedpeft.flower; print(*(os.environ[name] for name in {list(SWITCHES)}))"
    environment = {key: value for key, value in os.environ.items() if key not in SWITCHES} | given
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.split() == list((given or SWITCHES).values())


def test_flower_itself_reads_the_switches_that_we_set():
    """Were one of them renamed, setting it would do nothing: look for each in Flower's source."""
    import pathlib

    import flwr

    source = "".join(path.read_text(encoding="utf-8") for path in pathlib.Path(flwr.__file__).parent.rglob("*.py"))
    for name in SWITCHES:
        assert name in source, f"Flower no longer reads {name}"
