"""Processes that end with this one: told, killed when they do not listen, and gone when this one is killed."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time

import pytest
from engine_run import alive_after

from fedpeft.errors import RoundError
from fedpeft.simulation.engines import household as module
from fedpeft.simulation.engines.household import Household, free_port

pytestmark = pytest.mark.system

SCRIPTS = {
    "sleeps": "import time; time.sleep(600)",
    "deaf": "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('ready', flush=True); "
    "time.sleep(600)",
    "fails": "import sys; print('no such luck'); sys.exit(3)",
}


@pytest.fixture
def household(tmp_path, monkeypatch):
    """Its members run a script instead of an installed command, under the same watch."""
    code = (
        "import sys, threading; from fedpeft.simulation.engines import watched; watched.GRACE_S = 1.0; "
        "threading.Thread(target=watched._watch, daemon=True).start(); exec(sys.argv[-1])"
    )
    real = subprocess.Popen

    def popen(command, **more):
        return real([sys.executable, "-c", code, command[-1]], **more)

    monkeypatch.setattr(module.subprocess, "Popen", popen)
    monkeypatch.setattr(module, "ENDING_S", 2.0)
    return Household(tmp_path / "logs", {})


def test_all_end_with_the_context_also_one_that_does_not_listen(household):
    with household:
        members = [household.start("a sleeper", [SCRIPTS["sleeps"]], "sleeper.log")]
        members.append(household.start("a deaf one", [SCRIPTS["deaf"]], "deaf.log"))
        deadline = time.monotonic() + 60
        while "ready" not in members[1].last_words and time.monotonic() < deadline:
            time.sleep(0.05)
        household.check()
        assert household.is_whole
    assert [member.process.returncode for member in members] == [-signal.SIGTERM, -signal.SIGKILL]


def test_one_that_ends_by_itself_is_named_with_its_last_words(household):
    with household:
        household.start("the tester", [SCRIPTS["fails"]], "tester.log").process.wait()
        assert not household.is_whole
        with pytest.raises(RoundError) as caught:
            household.check()
    assert "the tester ended with exit code 3: no such luck" in caught.value.message
    assert "tester.log" in caught.value.remedy


def test_a_port_that_nobody_opens_is_an_error_in_time(household):
    with household:
        household.start("a sleeper", [SCRIPTS["sleeps"]], "sleeper.log")
        with pytest.raises(RoundError, match="a sleeper does not listen on port"):
            household.await_port(free_port(), 0.2)
        with socket.socket() as server:
            server.bind(("127.0.0.1", 0))
            server.listen()
            household.await_port(server.getsockname()[1], 5.0)


def test_they_end_when_their_parent_is_killed(tmp_path):
    """The real wrapper, around the real command line: a parent that starts it, says who it is, and is killed."""
    code = (
        "import sys, time; from pathlib import Path; from fedpeft.simulation.engines.household import Household\n"
        "with Household(Path(sys.argv[1]), {}) as household:\n"
        "    command = ['flower-superlink', '--insecure', '--host', '127.0.0.1', '--isolation', 'process']\n"
        "    member = household.start('it', [*command, '--port', sys.argv[2]], 'it.log')\n"
        "    print(member.process.pid, flush=True)\n"
        "    household.await_port(int(sys.argv[2]), 180)\n"
        "    print('listens', flush=True)\n"
        "    time.sleep(600)\n"
    )
    port = free_port()
    with subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path), str(port)], stdout=subprocess.PIPE, text=True
    ) as parent:
        child = int(parent.stdout.readline())
        assert parent.stdout.readline().strip() == "listens"
        assert alive_after([child], 0) == [child]
        os.kill(parent.pid, signal.SIGKILL)
    assert alive_after([child], 20) == []


def test_the_watch_lets_a_command_run_while_its_input_is_open():
    """`watched` runs an installed command with its arguments; the pipe is what keeps it alive."""
    with subprocess.Popen(
        [sys.executable, "-m", "fedpeft.simulation.engines.watched", "fedpeft", "--version"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        timer = threading.Timer(120, process.kill)
        timer.start()
        assert process.stdout.read().startswith("fedpeft ")
        timer.cancel()
        assert process.wait() == 0
