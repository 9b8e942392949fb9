"""The two apps for a bundle of configuration only: `fedpeft.simulation.apps:server_app` and `:client_app`.

The bundle at the root of the repository names `server/app.py` and `client/app.py`, which say the same.
"""

from fedpeft.flower import make_client_app, make_server_app
from fedpeft.simulation.deployed import agent_for, serve

server_app = make_server_app(serve)
client_app = make_client_app(agent_for)
