"""A real SuperLink with keys and TLS for two nodes, c00 and c01, and nobody at work on it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fedpeft.flower.compat.superlink import Operator
from fedpeft.simulation.engines import superlink
from fedpeft.simulation.engines.credentials import Credentials, make_credentials, public_pem, read_node_key
from fedpeft.simulation.engines.household import Household, free_port


@dataclass(frozen=True)
class BareSuperLink:
    """What a test needs to be any of its parties."""

    address: str
    credentials: Credentials
    authority: bytes  # PEM
    keys: Mapping[str, Any]  # client -> private key
    ids: Mapping[str, int]  # client -> node id
    operator: Operator


@contextmanager
def bare_superlink(folder: Path) -> Iterator[BareSuperLink]:
    """Started in a folder and ended with the block."""
    credentials = make_credentials(folder / "keys", ["c00", "c01"])
    authority = credentials.authority.read_bytes()
    with Household(folder, superlink._environment(folder)) as household:
        port = free_port()
        superlink._start_superlink(household, port, credentials)
        household.await_port(port, 180)
        address = f"127.0.0.1:{port}"
        keys = {client: read_node_key(path) for client, path in credentials.nodes.items()}
        with Operator(address, authority) as operator:
            ids = {client: operator.register(public_pem(key), client) for client, key in keys.items()}
            yield BareSuperLink(address, credentials, authority, keys, ids, operator)
