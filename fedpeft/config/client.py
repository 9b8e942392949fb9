"""`[client]`: what surrounds the agent on every client."""

from __future__ import annotations

from pydantic import Field

from fedpeft.config.table import Table


class ClientTable(Table):
    """`[client]`: how each client answers."""

    mods: list[str] = Field(default_factory=list)  # Flower mods around the agent, the first outermost:
    # "message-size" | "arrays-size" | path/file.py:function | package.module:function
