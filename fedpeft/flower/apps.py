"""The two apps that Flower loads: a ServerApp around the coordinator, a ClientApp around an agent.

They are the same in every engine. Everything of substance lies behind them and knows no Flower.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeAlias

from flwr.app import Context, Message, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp

from fedpeft.client import Agent
from fedpeft.flower.envelope import pack, unpack
from fedpeft.flower.mods import surround
from fedpeft.flower.transport import GridTransport
from fedpeft.types import ClientId, Transport

Values: TypeAlias = Mapping[str, str | int | float | bool]
"""A node's or a run's configuration, as Flower holds it."""

TTL = 7 * 86_400.0
"""Seconds after which Flower forgets a message: a backstop far behind every deadline of the coordinator."""


def make_server_app(main: Callable[[Transport, Values], None], *, count_wire: bool = True) -> ServerApp:
    """A ServerApp that runs `main(transport, run config)`.

    Args:
        main: coordinates.
        count_wire: count bytes at Flower's wire, where the Grid does not count them itself.
    """
    app = ServerApp()

    @app.main()
    def serve(grid: Grid, context: Context) -> None:
        main(GridTransport(grid, ttl=TTL, count=count_wire), context.run_config)

    return app


def make_client_app(agent_for: Callable[[Values, Values], tuple[Agent, ClientId]]) -> ClientApp:
    """A ClientApp that hands each frame to the agent that serves its node, through the agent's mods.

    Args:
        agent_for: (node config, run config) -> the agent, and the client that this node stands for.
    """
    app = ClientApp()

    def answer(message: Message, context: Context) -> Message:
        agent, client = agent_for(context.node_config, context.run_config)

        def handle(message: Message, context: Context) -> Message:
            return Message(pack(agent.handle(client, unpack(message))), reply_to=message)

        return surround(handle, agent.mods)(message, context)

    app.query()(answer)
    app.train()(answer)
    app.evaluate()(answer)
    return app


def run_server_app(app: ServerApp, grid: Grid, run_config: Values) -> None:
    """Run a ServerApp in this process, as Flower would in its own."""
    app(grid, Context(grid.run.run_id, 1, {}, RecordDict(), dict(run_config)))
