"""Plug-ins in files that plans name: a frame tells each by content too, since a device has its copy at another path.

A coordinator publishes those of its run file when it begins; whoever encodes a frame only looks them up. So no file is
read or run for a name that came over the wire.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from fedpeft.plugin_files import is_offer, offer

_BY_CONTENT: dict[str, str] = {}  # name in this process's run file -> `own.py:Mine#0f3a…`


def is_file(name: str) -> bool:
    """Whether a name is the path of a file and an attribute in it."""
    return ".py:" in name and not is_offer(name)


def publish(kind: str, name: str) -> None:
    """From now on, frames whose plans name this plug-in tell the content of its file; one in no file tells none.

    Raises:
        PluginError: as `offer`.
    """
    if is_file(name):
        _BY_CONTENT[name] = offer(kind, name, Path.cwd())


def published(names: Iterable[str]) -> dict[str, str]:
    """Those of these names that were published -> their names by content."""
    return {name: _BY_CONTENT[name] for name in names if name in _BY_CONTENT}
