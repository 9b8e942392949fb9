"""Flower, and the only place that imports it: apps, the transport over its Grid, and a Grid of our own for simulation.

Importing this package turns off Flower's telemetry, its update check and its installation of dependencies at run time,
unless the environment already says otherwise: an import must not reach the network.
"""

import os

for _switch, _value in {
    "FLWR_TELEMETRY_ENABLED": "0",
    "FLWR_DISABLE_UPDATE_CHECK": "1",
    "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
}.items():
    os.environ.setdefault(_switch, _value)

from flwr.serverapp import Grid  # noqa: E402

from fedpeft.flower.apps import make_client_app, make_server_app, run_server_app  # noqa: E402
from fedpeft.flower.local_grid import LocalGrid  # noqa: E402
from fedpeft.flower.transport import GridTransport  # noqa: E402

__all__ = ["Grid", "GridTransport", "LocalGrid", "make_client_app", "make_server_app", "run_server_app"]
