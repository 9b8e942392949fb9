"""The `flower` engine: Flower's simulation runtime, one virtual SuperNode a client, its actors on Ray.

Named after who runs it: `ray` is fedpeft's own trainer on a Ray cluster. There a cohort is trained in shares, many
clients in a pass; here each message goes to some actor by itself, as in any Flower simulation. An actor assembles the
run file once and keeps it, so the base model stays loaded between messages. All of a client's state is on disk under
the run's folder, where whichever actor gets its next message finds it: on a cluster that folder must be shared.
"""

from __future__ import annotations

import shutil
import tempfile
import tomllib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache, partial
from pathlib import Path
from typing import Any

from fedpeft.client import Agent
from fedpeft.config import RunConfig, parse_config
from fedpeft.flower import make_client_app
from fedpeft.flower.apps import Values
from fedpeft.journal import Journal
from fedpeft.simulation.engines.coordinate import coordinate, flower_log
from fedpeft.simulation.federation import Federation, assemble
from fedpeft.simulation.wiring import make_agent
from fedpeft.simulation.workers import worker_count
from fedpeft.simulation.workers.ray_cluster import connected_to_ray
from fedpeft.types import ClientId, FloatArray

LOG = "flower.log"


def run_flower(
    federation: Federation, journal: Journal, on_examples: Callable[[float], None]
) -> tuple[FloatArray, dict[str, Any]]:
    """Run the federation on Flower's simulation runtime; as `run_local`.

    Raises:
        ConfigError: Ray is not installed, or there is no cluster at `engine.address`.
    """
    config, clients = federation.config, len(federation.train)
    state = (journal.folder / "clients").resolve()
    with flower_log(journal.folder / LOG), _ray(config, min(worker_count(config), clients)):
        from fedpeft.flower.compat.virtual import virtual_nodes  # after Ray's settings: it imports Ray

        app = make_client_app(partial(virtual_client, config.to_toml(), str(state)))
        with virtual_nodes(app, clients, cpus=1, gpus=config.engine.gpus_per_worker) as nodes:
            return coordinate(federation, journal, nodes.grid, nodes.check, on_examples)


def virtual_client(run_file: str, state: str, node: Values, run: Values) -> tuple[Agent, ClientId]:
    """The agent of an actor's process, and the client that a virtual node stands for.

    Args:
        run_file: TOML, resolved.
        state: folder of the clients' state.
        node: configuration of the node; Flower numbers virtual nodes by `partition-id`.
        run: configuration of the run; not looked at.
    """
    agent = _agent(run_file, state)
    client = list(agent.homes)[int(node["partition-id"])]
    agent.homes[client].store.look_again()  # another actor may have served this client since
    return agent, client


@cache
def _agent(run_file: str, state: str) -> Agent:
    """One agent a process: the base model is loaded once, not once a message."""
    import torch

    torch.set_num_threads(1)
    federation = assemble(parse_config(tomllib.loads(run_file), origin="run file of the coordinator"))
    return make_agent(federation, federation.devices, Path(state))


@contextmanager
def _ray(config: RunConfig, workers: int) -> Iterator[None]:
    """A Ray of this run's own with its files in a folder that ends with it, or the cluster that the run file names."""
    folder = tempfile.mkdtemp(prefix="ray-")  # a short path: Ray keeps Unix sockets there, which allow 107 bytes
    try:
        with connected_to_ray(config, workers, folder):
            yield
    finally:
        shutil.rmtree(folder, ignore_errors=True)
