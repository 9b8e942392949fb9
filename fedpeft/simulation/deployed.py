"""The two halves of a run as Flower's own processes load them: a coordinator in one, an agent in each of the others.

Both sides read the same run file; its path comes in Flower's run configuration as `run-file` (a device may name its own
copy in its node configuration). The generated or partitioned data of a run file stands in for a device's own data.
"""

from __future__ import annotations

import time
import tomllib
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from fedpeft.client import Agent
from fedpeft.config import RunConfig, load_run_file, parse_config
from fedpeft.errors import ConfigError
from fedpeft.flower.apps import Values
from fedpeft.journal import Journal
from fedpeft.journal.database import FILE
from fedpeft.simulation.devices import assign_devices
from fedpeft.simulation.federation import Federation, assemble
from fedpeft.simulation.run import RUN_FILE, perform
from fedpeft.simulation.wiring import make_agent, make_coordinator
from fedpeft.types import ClientId, FloatArray, Transport

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
        ConfigError: there is no run file, it is wrong, or it is not the one that the run in its folder began with.
        FedpeftError: what else ended the run; the same call goes on from its last commit.
    """
    config = load_run_file(_run_file(run_config, run_config))
    begun = (config.folder / FILE).exists()
    if begun:
        config = _as_it_began(config)
    federation = assemble(config)
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
    """The run file with the kernel that the run in its folder began with, where it leaves the choice.

    Any other difference is refused: the agents read their run file anew and would do something else.
    """
    with Journal.read(config.folder) as journal:
        began_with = journal.config_toml
    if config.engine.kernel == "auto":
        kernel = parse_config(tomllib.loads(began_with), origin=str(config.folder / RUN_FILE)).engine.kernel
        config = config.model_copy(update={"engine": config.engine.model_copy(update={"kernel": kernel})})
    if began_with != config.to_toml():
        raise ConfigError(
            f"the run in {config.folder} began with another run file than the one given now",
            code="config.other-run-file",
            allowed=f"the run file as it was then: {config.folder / RUN_FILE}",
            remedy="change it back to go on with this run, or give the new one another run.name",
        )
    return config


def agent_for(node_config: Values, run_config: Values) -> tuple[Agent, ClientId]:
    """The agent of this process, and the client that the node's configuration names as `client`.

    Raises:
        ConfigError: the node names no client, or one that the run file does not have.
    """
    client = ClientId(str(node_config.get("client", "")))
    folder = Path(str(node_config.get("state", "~/.fedpeft"))).expanduser()
    agent = _agent(_run_file(node_config, run_config), folder)
    if client not in agent.homes:
        raise ConfigError(
            f'node config: client = "{client}" is not a client of this run',
            code="config.node-client",
            allowed=", ".join(agent.homes),
            remedy="start the SuperNode with --node-config 'client=\"c00\"'",
        )
    return agent, client


@cache
def _agent(run_file: Path, folder: Path) -> Agent:
    """One agent a process: the base model is loaded once, not once a message."""
    federation = assemble(load_run_file(run_file))
    return make_agent(
        federation, assign_devices(federation.config, list(federation.train)), folder / federation.config.run.name
    )


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
