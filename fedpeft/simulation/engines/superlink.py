"""The `superlink` engine: a deployment of Flower on this machine, started for one run and ended with it.

    this process ── Runtime API, shared secret ──┐
                                            SuperLink  (TLS on loopback, a free port, keys of the run's own)
    agents or SuperNodes ── Fleet API, keys ─────┘

The coordinator stays in this process: it acquires the ServerApp's task from the SuperLink as Flower's SuperExec would
(`--isolation process`), so journal, screen, errors and Ctrl-C are as on every other engine. Flower 1.41 makes a node of
every client and starts processes for every message; two for each client, at 150 MB, are too many for one machine.
So `engine.workers` agents stand for all nodes, each node with a key of its own, and keep the model loaded; with
`engine.nodes = "stock"` there is a Flower SuperNode for each client instead.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from fedpeft.config import RunConfig
from fedpeft.errors import ConfigError, RoundError
from fedpeft.flower.compat.superlink import Operator
from fedpeft.flower.compat.task import server_task
from fedpeft.journal import Journal
from fedpeft.simulation.engines.coordinate import POLL_S, coordinate, flower_log
from fedpeft.simulation.engines.credentials import Credentials, make_credentials, public_pem, read_node_key
from fedpeft.simulation.engines.household import Household, free_port
from fedpeft.simulation.federation import Federation
from fedpeft.simulation.run import RUN_FILE
from fedpeft.simulation.workers import worker_count
from fedpeft.types import FloatArray
from fedpeft.version import __version__

FOLDER = "superlink"
"""In the run's folder: credentials, logs, Flower's own files."""

STARTING_S = 180.0
"""Seconds that the SuperLink may take to listen: 3 on an idle machine, 30 on a busy one."""

STOCK_NODES = 16
"""Stock SuperNodes at most, at two processes and 300 MB each."""

APP = f"""
[project]
name = "fedpeft"
version = "{__version__}"
license = "Apache-2.0"
[tool.flwr.app]
publisher = "fedpeft"
[tool.flwr.app.components]
serverapp = "fedpeft.simulation.apps:server_app"
clientapp = "fedpeft.simulation.apps:client_app"
[tool.flwr.app.config]
run-file = ""
"""
"""The app as Flower is told of it: configuration; the installed fedpeft is what runs."""


def run_superlink(
    federation: Federation, journal: Journal, on_examples: Callable[[float], None]
) -> tuple[FloatArray, dict[str, Any]]:
    """Run the federation over a SuperLink of its own; as `run_local`.

    Raises:
        ConfigError: more stock SuperNodes than a machine should hold.
        RoundError: one of the processes ended, or did not start.
    """
    config, clients = federation.config, list(federation.train)
    if config.engine.nodes == "stock" and len(clients) > STOCK_NODES:
        raise ConfigError(
            f'engine.nodes = "stock" with {len(clients)} clients: each is a SuperNode of two processes and 300 MB',
            code="config.too-many-nodes",
            allowed=f"at most {STOCK_NODES}",
            remedy='set engine.nodes = "resident", or have fewer clients',
        )
    folder = (journal.folder / FOLDER).resolve()
    credentials = make_credentials(folder / "credentials", clients)
    authority = credentials.authority.read_bytes()
    with flower_log(folder / "coordinator.log"), Household(folder, _environment(folder)) as household:
        port = free_port()
        address = f"127.0.0.1:{port}"
        _start_superlink(household, port, credentials)
        if config.engine.nodes == "resident":  # they load the model meanwhile, and ask until they are registered
            _start_agents(household, config, address, credentials, journal)
        household.await_port(port, STARTING_S)
        with Operator(address, authority) as operator:
            for client, path in credentials.nodes.items():
                operator.register(public_pem(read_node_key(path)), client)
            operator.start_run(APP, {"run-file": str(journal.folder.resolve() / RUN_FILE)})
        if config.engine.nodes == "stock":  # which give up when they are refused
            _start_stock(household, address, credentials, journal)
        secret = credentials.secret.read_bytes()
        try:
            with server_task(address, authority, secret, is_lost=lambda: not household.is_whole) as grid:
                return coordinate(federation, journal, grid, household.check, on_examples)
        except RoundError:
            household.check()  # which of the processes ended says more than that one of them does not answer
            raise


def _environment(folder: Path) -> dict[str, str]:
    return {
        "FLWR_HOME": str(folder / "flwr"),
        "FLWR_TELEMETRY_ENABLED": "0",
        "FLWR_DISABLE_UPDATE_CHECK": "1",
        "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
    }


def _start_superlink(household: Household, port: int, credentials: Credentials) -> None:
    command = ["flower-superlink", "--host", "127.0.0.1", "--port", str(port), "--isolation", "process"]
    command += ["--ssl-ca-certfile", str(credentials.authority), "--ssl-certfile", str(credentials.certificate)]
    command += ["--ssl-keyfile", str(credentials.key), "--superexec-auth-secret-file", str(credentials.secret)]
    command += ["--enable-supernode-auth", "--disable-runtime-dependency-installation"]
    household.start("the SuperLink", command, "superlink.log")


def _start_agents(
    household: Household, config: RunConfig, address: str, credentials: Credentials, journal: Journal
) -> None:
    """Agents that share the clients."""
    folder, clients = journal.folder.resolve(), list(credentials.nodes)
    agents = min(worker_count(config), len(clients))
    for number in range(agents):
        command = ["fedpeft", "agent", str(folder / RUN_FILE), "--superlink", address, "--poll", str(POLL_S)]
        command += ["--root-certificates", str(credentials.authority), "--state", str(folder / "clients")]
        for client in clients[number::agents]:
            command += ["--client", f"{client}={credentials.nodes[client]}"]
        household.start(f"agent {number + 1}", command, f"agent-{number + 1}.log")


def _start_stock(household: Household, address: str, credentials: Credentials, journal: Journal) -> None:
    """A SuperNode for each client."""
    for client, key in credentials.nodes.items():
        command = ["flower-supernode", "--superlink", address, "--root-certificates", str(credentials.authority)]
        command += ["--host", "127.0.0.1", "--port", str(free_port()), "--auth-supernode-private-key", str(key)]
        state = journal.folder.resolve() / "clients"
        command += ["--node-config", f'client="{client}" state="{state}"']
        # Apps are unpacked into FLWR_HOME: not by two nodes into the same one.
        own = {"FLWR_HOME": str(household.folder / f"flwr-{client}")}
        household.start(f"the SuperNode of {client}", command, f"supernode-{client}.log", own)
