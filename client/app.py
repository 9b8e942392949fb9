"""The ClientApp that Flower loads: an agent for the client that this node's configuration names.

    flower-supernode --node-config 'client="c00"' ...

The run file comes with the run configuration; see client/README.md.
"""

from fedpeft.flower import make_client_app
from fedpeft.simulation.deployed import agent_for

app = make_client_app(agent_for)
