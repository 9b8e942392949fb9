"""`fedpeft agent`: what is wrong with its arguments is told before anything is connected."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest
from tiny_text import write_run

from fedpeft.cli.agent import _check_address, _keys, _until_told
from fedpeft.cli.main import perform
from fedpeft.cli.output import Session
from fedpeft.errors import ConfigError
from fedpeft.simulation.engines.credentials import make_credentials
from fedpeft.simulation.engines.household import free_port


@pytest.fixture(scope="module")
def run_file(tmp_path_factory):
    return write_run(tmp_path_factory.mktemp("run"))


WRONG = {
    "no such client": (["--client", "c77"], 2, '--client "c77" is not a client'),
    "no such key": (["--client", "c00=nowhere.key"], 2, "the key file nowhere.key does not exist"),
    "no path of a key": (["--client", "c00="], 2, "--client c00=: the path after = is empty"),
    "no such certificate": (["--client", "c00", "--root-certificates", "nowhere.crt"], 2, "contradicts"),
    "no seconds": (["--client", "c00", "--poll", "nan"], 2, "--poll nan is no number of seconds"),
    "a public key": (["--client", "c00=PUBLIC"], 2, "that is the public half: name"),
    "no folder": (["--client", "c00", "--state", "FILE"], 2, "cannot be written: Not a directory"),
    "no client": ([], 2, "Missing option '--client'"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_wrong_is_named(run_file, capfd, tmp_path, case):
    arguments, code, words = WRONG[case]
    (tmp_path / "some.key.pub").write_text("ecdsa-sha2-nistp384 AAAA")
    places = {"FILE": str(tmp_path / "some.key.pub"), "c00=PUBLIC": f"c00={tmp_path / 'some.key.pub'}"}
    arguments = [places.get(word, word) for word in arguments]
    given = ["agent", str(run_file), "--superlink", "127.0.0.1:1", "--insecure", *arguments]
    assert perform(given, Session()) == code
    assert words in " ".join(capfd.readouterr().err.replace("│", " ").split())


@pytest.fixture(scope="module")
def nodes(tmp_path_factory):
    return make_credentials(tmp_path_factory.mktemp("keys"), ["c00", "c01"]).nodes


def test_a_client_that_is_named_twice_is_refused(nodes):
    first, second = (f"c00={path}" for path in nodes.values())
    for pairs in ([first, second], ["c00", second], ["c00", "c00"]):
        with pytest.raises(ConfigError) as caught:
            _keys(pairs)
        assert caught.value.message == f"--client {pairs[0]} and --client {pairs[1]} name the same client"
        assert caught.value.code == "config.node-client"


def test_a_key_of_two_clients_is_refused(nodes, tmp_path):
    copy = tmp_path / "copy.key"
    copy.write_bytes(nodes["c00"].read_bytes())
    copy.chmod(0o600)
    for path in (nodes["c00"], copy):
        with pytest.raises(ConfigError) as caught:
            _keys([f"c00={nodes['c00']}", f"c01={path}"])
        assert caught.value.message == f"--client c00={nodes['c00']} and --client c01={path} name the same key"
        assert caught.value.code == "config.node-key"
    assert list(_keys([f"{client}={path}" for client, path in nodes.items()])) == ["c00", "c01"]
    assert _keys(["c00", "c01"]) == {"c00": None, "c01": None}


@pytest.mark.parametrize(
    "address", ["nonsense", "host:", ":8000", "host:http", "host:0", "https://host:8000", "::1:80"]
)
def test_an_address_that_is_none_is_refused_at_once(run_file, capfd, address):
    assert perform(["agent", str(run_file), "--superlink", address, "--client", "c00"], Session()) == 2
    assert f'--superlink "{address}" is not HOST:PORT' in capfd.readouterr().err


@pytest.mark.parametrize("address", ["fl.example.org:8000", "127.0.0.1:1", "[::1]:8000"])
def test_an_address_of_any_kind_passes(address):
    _check_address(address)


@pytest.mark.parametrize("content", [None, b"rubbish", b"\xff"], ids=["missing", "rubbish", "binary"])
def test_a_certificate_that_is_none_is_named(run_file, capfd, tmp_path, content):
    path = tmp_path / "ca.crt"
    if content is not None:
        path.write_bytes(content)
    given = ["agent", str(run_file), "--superlink", "127.0.0.1:1", "--client", "c00", "--root-certificates", str(path)]
    assert perform(given, Session()) == 2
    said = " ".join(capfd.readouterr().err.split())
    assert ("No such file" if content is None else "it is no certificate") in said


@pytest.mark.system
def test_a_process_that_waits_for_an_absent_superlink_ends_at_the_first_signal(run_file, tmp_path):
    address = f"127.0.0.1:{free_port()}"  # nobody listens there
    program = [sys.executable, "-m", "fedpeft.cli.main", "agent", str(run_file), "--superlink", address, "--insecure"]
    given = [*program, "--client", "c00", "--state", str(tmp_path)]
    with subprocess.Popen(given, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as agent:
        try:
            said = next(line for line in agent.stdout if "waiting for" in line)
            agent.send_signal(signal.SIGTERM)
            rest = agent.communicate(timeout=60)[0]
        finally:
            agent.kill()
    assert f"waiting for the SuperLink at {address}: " in said
    assert (agent.returncode, rest) == (0, "")


def test_a_first_signal_ends_the_service_and_a_second_one_interrupts():
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        told = _until_told()
        assert not told.is_set()
        signal.raise_signal(signal.SIGTERM)
        assert told.is_set()
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
