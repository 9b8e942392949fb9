"""A connection to Ray: to a running cluster, or to one of our own on this machine that ends with the run."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from fedpeft.config import RunConfig
from fedpeft.errors import ConfigError

STORE_BYTES = 500_000_000
"""Size of the object store of a cluster that is started here: deltas stay in it for moments only."""

SHORT = 250
"""Characters of Ray's errors that are passed on."""

KNOCK = 10.0
"""Seconds that a cluster may take to accept a connection."""


@contextmanager
def connected_to_ray(config: RunConfig, workers: int, folder: str) -> Iterator[None]:
    """The Ray of a run file's `[engine]`; what is connected or started here is let go of with the context.

    Args:
        config: names the cluster.
        workers: processors of a cluster that is started here.
        folder: for the files of a cluster that is started here.

    Raises:
        ConfigError: Ray is not installed, or there is no cluster at the address.
    """
    ray = import_ray(alone=not config.engine.address)
    if ray.is_initialized():  # the user's own, who ends it
        yield
        return
    connect(ray, config.engine.address, workers, folder)
    try:
        yield
    finally:
        ray.shutdown()


def import_ray(*, alone: bool) -> Any:
    """Ray, with what it reads from the environment when it is imported.

    Args:
        alone: no cluster but one of our own will be connected.

    Raises:
        ConfigError: it is not installed.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # read when Ray is imported
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # what will be the default; else Ray warns of it
    if alone:  # nothing else keeps Ray's servers off the network on Linux (ray._private.services.get_node_ip_address)
        os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
    try:
        import ray
    except ImportError as error:
        raise ConfigError(
            'engine.name = "ray" and "flower" need Ray, which is not installed',
            code="config.no-ray",
            allowed='engine.name = "local", with as many engine.workers as there are cores',
            remedy="pip install 'fedpeft[ray]'",
        ) from error
    return ray


def connect(ray: Any, address: str, workers: int, folder: str | None = None) -> None:
    """Connect to the cluster at an address, or start one on this machine.

    Args:
        ray: the module.
        address: of a cluster; "" starts one.
        workers: processors of a cluster that is started here.
        folder: for the files of a cluster that is started here; default: Ray's own, which all its users share.

    Raises:
        ConfigError: there is no cluster at the address.
    """
    quiet = {"log_to_driver": False, "logging_level": "ERROR"}
    try:
        if address:
            _knock(address)
            ray.init(address=address, **quiet)
        else:
            ray.init(
                address="local",  # else Ray would look for a cluster that somebody runs here
                num_cpus=workers,
                include_dashboard=False,
                object_store_memory=STORE_BYTES,
                _node_ip_address="127.0.0.1",
                _temp_dir=folder,
                **quiet,
            )
    except (OSError, RuntimeError, ValueError) as error:  # a ConnectionError is an OSError
        raise ConfigError(
            f'engine.address = "{address}": there is no Ray cluster: {short(error)}',
            code="config.no-cluster",
            allowed='"" to start one on this machine, "auto" for the one that runs here, or ray://HOST:10001',
            remedy="start it with `ray start --head`, or correct the address",
        ) from error


def _knock(address: str) -> None:
    """See whether anybody listens at the address: Ray would try for minutes.

    Raises:
        OSError: nobody does.
    """
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if colon and port.isdecimal():
        socket.create_connection((host.strip("[]"), int(port)), timeout=KNOCK).close()


def short(error: BaseException) -> str:
    """The end of what Ray has to say, which names the cause."""
    text = " ".join(str(error).split())
    return text if len(text) <= SHORT else "..." + text[-SHORT:]
