"""The two halves of a run as Flower's own processes load them: a coordinator in one, an agent in each of the others.

Both sides read the same run file; its path comes in Flower's run configuration as `run-file` (a device may name its own
copy in its node configuration). The generated or partitioned data of a run file stands in for a device's own data.
"""

from __future__ import annotations

import os
import threading
import time
import tomllib
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fedpeft.client import Agent
from fedpeft.config import RunConfig, load_run_file, parse_config
from fedpeft.errors import ConfigError
from fedpeft.flower import make_client_app
from fedpeft.flower.apps import Values
from fedpeft.flower.nodes import connected, serve_nodes
from fedpeft.journal import Journal
from fedpeft.journal.database import FILE
from fedpeft.simulation.arm_costs import check_arms
from fedpeft.simulation.federation import Federation, assemble
from fedpeft.simulation.run import RUN_FILE, perform
from fedpeft.simulation.same_run import changed_keys, told
from fedpeft.simulation.wiring import make_agent, make_coordinator
from fedpeft.types import ClientId, FloatArray, Transport

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric import ec

    from fedpeft.flower.compat.node import SuperLink

POLL_S = 0.2
"""Seconds between two looks of the coordinator."""


class SystemClock:
    """The machine's monotonic clock: jumps of the wall clock neither drop clients nor expire rounds."""

    def now(self) -> float:
        """Seconds since an arbitrary start."""
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        """Wait."""
        time.sleep(seconds)


def serve(transport: Transport, run_config: Values) -> None:
    """Coordinate the run that the run configuration names; goes on with it when its folder already holds one.

    Raises:
        ConfigError: there is no run file, it is wrong, its scheduler needs to know what real devices take, or it is
            not the one that the run in its folder began with.
        FedpeftError: what else ended the run; the same call goes on from its last commit.
    """
    config = load_run_file(_run_file(run_config, run_config))
    begun = (config.folder / FILE).exists()
    if begun:
        config = _as_it_began(config)
    check_arms(config, simulated=False)
    federation = replace(assemble(config), simulated=False)
    config = federation.config
    if begun:
        journal = Journal.open(config.folder)
    else:
        journal = Journal.create(config.folder, run=config.run.name, config_toml=config.to_toml())

    def engine(
        federation: Federation, journal: Journal, on_examples: Callable[[float], None]
    ) -> tuple[FloatArray, dict[str, Any]]:
        coordinator = make_coordinator(
            federation, transport, SystemClock(), journal, poll_s=POLL_S, on_examples=on_examples
        )
        return coordinator.run(), coordinator.post.moved_since_last("hello", "train", "evaluate")

    with journal:
        perform(federation, journal, engine=engine)


def _as_it_began(config: RunConfig) -> RunConfig:
    """The run file with what the run in its folder settled, where the given one leaves the choice ("auto").

    Any other difference is refused: the agents read their run file anew and would do something else.
    """
    origin = str(config.folder / RUN_FILE)
    with Journal.read(config.folder) as journal:
        began = parse_config(tomllib.loads(journal.config_toml), origin=origin)
    if changed := changed_keys(began, config):
        raise ConfigError(
            f"the run in {config.folder} began with another run file than the one given now: {told(changed)}",
            code="config.other-run-file",
            allowed=f"the run file as it was then: {origin}",
            remedy="change it back to go on with this run, or give the new one another run.name",
        )
    return began


def agent_for(node_config: Values, run_config: Values) -> tuple[Agent, ClientId]:
    """The agent of this process, and the client that the node's configuration names.

    A SuperNode names it as `client`; the virtual ones of a Flower simulation are numbered by `partition-id`.

    Raises:
        ConfigError: the node names no client, or one that the run file does not have.
    """
    folder = Path(str(node_config.get("state", "~/.fedpeft"))).expanduser()
    agent = _agent(_run_file(node_config, run_config), folder)
    clients, number = list(agent.homes), node_config.get("partition-id")
    if "client" not in node_config and isinstance(number, int) and number < len(clients):
        client = clients[number]
    else:
        client = ClientId(str(node_config.get("client", "")))
    if client not in agent.homes:
        raise ConfigError(
            f'node config: client = "{client}" is not a client of this run',
            code="config.node-client",
            allowed=", ".join(agent.homes),
            remedy="start the SuperNode with --node-config 'client=\"c00\"'",
        )
    agent.homes[client].store.look_again()  # another process may have served this client since
    return agent, client


@cache
def _agent(run_file: Path, folder: Path) -> Agent:
    """One agent a process: the base model is loaded once, not once a message."""
    federation = assemble(load_run_file(run_file))
    return make_agent(federation, federation.devices, folder / federation.config.run.name)


def serve_clients(
    run_file: Path,
    keys: Mapping[ClientId, ec.EllipticCurvePrivateKey | None],
    superlink: SuperLink,
    state: Path,
    stopped: threading.Event,
    *,
    poll_s: float,
    patience_s: float,
    on_ready: Callable[[], None] = lambda: None,
) -> None:
    """Be the nodes of some clients of a run until `stopped` is set; the base model is loaded once.

    Args:
        run_file: this device's own copy.
        keys: of the clients' nodes; None where the SuperLink takes anybody.
        superlink: where it is.
        state: folder for what the clients keep: a folder for the run, in it one for each client.
        stopped: ends the service, and every wait for the SuperLink; a message that has been taken is answered before,
            unless the SuperLink is away.
        poll_s: seconds between two looks for messages.
        patience_s: seconds to go on asking while the SuperLink refuses a node.
        on_ready: called when the model is loaded and all nodes are connected.

    Raises:
        ConfigError: the run file is wrong, or has no such client; or its folder cannot be written.
        RoundError: the SuperLink refuses a node at the start, or later the last one that was left.
    """
    federation = assemble(load_run_file(run_file))
    devices = federation.devices
    strangers = sorted(keys.keys() - devices.keys())
    if strangers:
        raise ConfigError(
            f'--client "{strangers[0]}" is not a client of {run_file}',
            code="config.node-client",
            allowed=", ".join(devices),
            remedy="name one of these",
        )
    mine = {client: devices[client] for client in keys}
    kept = state.expanduser() / federation.config.run.name
    for client in mine:
        _check_writable(kept / client)
    agent = make_agent(federation, mine, kept)
    app = make_client_app(lambda node, run: (agent, ClientId(str(node["client"]))))
    from fedpeft.flower.compat.waiting import Stopped

    with suppress(Stopped), connected(superlink, keys, patience_s=patience_s, stopped=stopped) as nodes:
        on_ready()
        serve_nodes(app, nodes, stopped, poll_s=poll_s, train_ahead=agent.train_ahead)


def _check_writable(folder: Path) -> None:
    """Make a client's folder, before it trains what it then could not keep."""
    probe = folder / f".probe-{os.getpid()}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe.write_bytes(b"")
        probe.unlink()
    except OSError as error:
        raise ConfigError(
            f"--state: {folder} cannot be written: {error.strerror}",
            code="config.state",
            allowed="a folder, which is made, on a disk with room",
            remedy="name another folder in --state",
        ) from error


def _run_file(own: Values, run_config: Values) -> Path:
    name = own.get("run-file") or run_config.get("run-file")
    if not name:
        raise ConfigError(
            "the run configuration names no run file",
            code="config.no-run-file",
            allowed="the path of a run file that both sides can read",
            remedy="flwr run . --run-config 'run-file=\"/path/to/run.toml\"'",
        )
    return Path(str(name))
