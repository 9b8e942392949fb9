"""Flower's simulation runtime: virtual nodes whose messages are answered by actors on Ray.

This is what `flwr run` reaches for a simulation, below the function `run_simulation`, which Flower 1.41 has deprecated.
Flower runs the ServerApp in a thread and the runtime in the main one. Here it is the other way round: the journal and
Ctrl-C belong to the main thread.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import cast

from flwr.clientapp import ClientApp
from flwr.common.constant import NUM_PARTITIONS_KEY, PARTITION_ID_KEY
from flwr.proto.task_pb2 import Task
from flwr.server.superlink.fleet import vce
from flwr.server.superlink.fleet.vce.metrics import VceMetrics
from flwr.server.superlink.linkstate import InMemoryLinkState, LinkStateFactory
from flwr.server.superlink.linkstate.in_memory_linkstate import RunRecord
from flwr.serverapp import Grid
from flwr.supercore.constant import FLWR_IN_MEMORY_DB_NAME, NOOP_FEDERATION_ID
from flwr.supercore.object_store import ObjectStoreFactory
from flwr.superlink.federation import NoOpFederationManager
from flwr.superlink.grid import InMemoryGrid

from fedpeft.flower.compat import assume_identity, check_version, empty_run

RUN_ID, TASK_ID = 1, 1
STOPPING_S = 30.0
"""Seconds that the runtime may take to end: a client that is being trained is not interrupted."""

__all__ = ["NUM_PARTITIONS_KEY", "PARTITION_ID_KEY", "VirtualNodes", "virtual_nodes"]


@dataclass
class VirtualNodes:
    """Nodes that exist in Flower's memory only."""

    grid: Grid
    failure: list[BaseException] = field(default_factory=list)  # what ended the runtime, if anything did

    def check(self) -> None:
        """Raise what ended the runtime: nobody would answer any more."""
        if self.failure:
            raise self.failure[0]


@contextmanager
def virtual_nodes(app: ClientApp, count: int, *, cpus: int, gpus: float) -> Iterator[VirtualNodes]:
    """Nodes 0 to count - 1, told apart by `partition-id` in their node configuration, on the Ray that is connected.

    Args:
        app: pickled for every message: it should hold references only.
        count: of nodes.
        cpus: of an actor; there are as many actors as fit.
        gpus: of an actor; may be a fraction.
    """
    check_version()
    assume_identity(RUN_ID)
    factory = LinkStateFactory(FLWR_IN_MEMORY_DB_NAME, NoOpFederationManager(), ObjectStoreFactory())
    state = cast(InMemoryLinkState, factory.state())
    run = empty_run(RUN_ID)
    run.primary_task_id, run.federation_id = TASK_ID, NOOP_FEDERATION_ID
    state.run_ids[RUN_ID] = RunRecord(run=run)
    state.task_store[TASK_ID] = Task(task_id=TASK_ID, run_id=RUN_ID)
    grid = InMemoryGrid(state_factory=factory)
    grid.set_run(run)
    nodes, over = VirtualNodes(grid), threading.Event()
    backend = {"init_args": {}, "client_resources": {"num_cpus": cpus, "num_gpus": gpus}, "actor": {"tensorflow": 0}}

    def serve() -> None:
        try:
            vce.start_vce(
                num_supernodes=count,
                client_app=app,
                backend_name="ray",
                backend_config_json_stream=json.dumps(backend),
                app_dir="",
                is_app=False,
                f_stop=over,
                run=run,
                metrics=VceMetrics(),
                state_factory=factory,
            )
        except BaseException as error:
            nodes.failure.append(error)

    runtime = threading.Thread(target=serve, name="flower-simulation", daemon=True)
    runtime.start()
    try:
        yield nodes
    finally:
        over.set()
        runtime.join(STOPPING_S)
