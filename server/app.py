"""The ServerApp that Flower loads: runs the run file that the run configuration names, over Flower's Grid.

    flwr run . --run-config 'run-file="/path/to/run.toml"'

The run's folder, journal and adapter are on the coordinator's disk; see server/README.md.
"""

from fedpeft.flower import make_server_app
from fedpeft.simulation.deployed import serve

app = make_server_app(serve)
