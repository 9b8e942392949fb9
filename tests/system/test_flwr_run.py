"""`flwr run .` at the root of the repository: over a SuperLink, and as a Flower simulation. The same adapter."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from tiny_text import write_run

import fedpeft
from fedpeft import api
from fedpeft.config import load_run_file
from fedpeft.journal import Journal
from fedpeft.simulation.engines.household import Household, free_port

pytestmark = [pytest.mark.system, pytest.mark.timeout(900)]

ROOT = Path(fedpeft.__file__).parents[1]
CLIENTS = ("c00", "c01")
OFFLINE = {
    "FLWR_TELEMETRY_ENABLED": "0",
    "FLWR_DISABLE_UPDATE_CHECK": "1",
    "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
}


@pytest.fixture
def household(tmp_path):
    home = tmp_path / "home"  # simulated clients keep their state below it
    home.mkdir()
    with Household(tmp_path / "logs", {**OFFLINE, "FLWR_HOME": str(tmp_path / "flwr"), "HOME": str(home)}) as members:
        yield members


@pytest.fixture
def run_file(tmp_path):
    changes = {"devices": [{"name": "phone", "clients": len(CLIENTS)}], "evaluation__clients": False}
    return write_run(tmp_path / "run", **changes)


def superlink(household, *more):
    port = free_port()
    command = ["flower-superlink", "--insecure", "--host", "127.0.0.1", "--port", str(port)]
    household.start("the SuperLink", [*command, "--disable-runtime-dependency-installation", *more], "superlink.log")
    household.await_port(port, 180)
    return port


def flwr_run(household, port, run_file, *more):
    """`flwr run .` with a connection to the SuperLink; its log."""
    home = Path(household.environment["FLWR_HOME"])
    home.mkdir(exist_ok=True)
    connection = f'[superlink]\ndefault = "here"\n[superlink.here]\naddress = "127.0.0.1:{port}"\ninsecure = true\n'
    (home / "config.toml").write_text(connection, encoding="utf-8")
    program = Path(sys.executable).parent / "flwr"
    command = [str(program), "run", ".", "here", "--stream", "--run-config", f'run-file="{run_file}"', *more]
    done = subprocess.run(command, cwd=ROOT, env=household.environment, capture_output=True, text=True, timeout=600)
    return done.stdout + done.stderr


def check(run_file, log, tmp_path):
    expected = api.run(load_run_file(run_file, {"run.folder": str(tmp_path / "local")})).adapter_hash
    folder = load_run_file(run_file).folder
    assert (folder / "journal.sqlite").exists(), log
    with Journal.read(folder) as journal:
        assert journal.last_commit().adapter == expected, log
    assert (folder / "adapter" / "adapter_config.json").is_file()


def test_over_a_superlink_with_an_agent_and_a_supernode_of_flowers_own(household, run_file, tmp_path):
    port = superlink(household)
    state = tmp_path / "state"
    agent = ["fedpeft", "agent", str(run_file), "--superlink", f"127.0.0.1:{port}", "--insecure", "--poll", "0.2"]
    household.start("the agent", [*agent, "--client", "c00", "--state", str(state)], "agent.log")
    node = ["flower-supernode", "--insecure", "--superlink", f"127.0.0.1:{port}", "--host", "127.0.0.1"]
    node += ["--port", str(free_port()), "--node-config", f'client="c01" state="{state}"']
    household.start("the SuperNode", node, "supernode.log", {"FLWR_HOME": str(tmp_path / "flwr-node")})
    log = flwr_run(household, port, run_file)
    household.check()
    check(run_file, log, tmp_path)
    assert sorted(path.name for path in (state / "colours").iterdir()) == list(CLIENTS)


def test_as_a_simulation(household, run_file, tmp_path):
    port = superlink(household, "--simulation")
    size = f"num-supernodes={len(CLIENTS)} client-resources-num-cpus=1 init-args-num-cpus=1"
    log = flwr_run(household, port, run_file, "--federation-config", size)
    check(run_file, log, tmp_path)
