"""Which plug-ins a coordinator may name on a device: what is installed here, and what the device's own run file names.

A plan says by name what to encode, train and score with. A name may also be a path, or any attribute of any module:
whoever sends it would choose what this device runs. So a path or a module counts only where the device's own run file
has the same; all else must be built in, or installed as an entry point.
"""

from __future__ import annotations

from collections.abc import Iterable

from fedpeft.codecs.compose import parts_of
from fedpeft.errors import ClientFault
from fedpeft.plugin_files import offered
from fedpeft.registry import Kind, names
from fedpeft.wire.frame import Frame


class Allowed:
    """The names that frames may have.

    Args:
        own: (kind, name) of the plug-ins in this device's run file, as they stand there.
        optimizers: the registry kind of what plans name as their optimizer.
    """

    def __init__(self, own: Iterable[tuple[Kind, str]] = (), optimizers: Kind = "optimizer") -> None:
        self._known = set(own)  # and what was looked up: a cohort's plans all name the same
        self.optimizers = optimizers

    def check(self, frame: Frame) -> None:
        """Refuse a frame that names anything else, before any of it is loaded.

        Raises:
            ClientFault: names it.
        """
        asked: list[tuple[Kind, str]] = [("codec", section.codec) for section in frame.sections]
        if (plan := frame.plan) is not None:
            asked += [("codec", plan.codec), ("codec", plan.auxiliary), ("objective", plan.objective)]
            asked += [(self.optimizers, plan.optimizer), ("importance", plan.importance)]
        for kind, name in asked:
            if name and not self.has(kind, name):
                raise ClientFault(
                    f'client {frame.client}: {kind} "{name}" is neither installed here nor in this device\'s run file',
                    code="client.no-plugin",
                    allowed=", ".join(sorted({*names(kind), *offered(kind)})),
                    remedy="install it on both sides, or name it in both run files",
                )

    def has(self, kind: Kind, name: str) -> bool:
        """Whether a plug-in may be named."""
        if (kind, name) not in self._known and (name in names(kind) or name in offered(kind) or _composed(kind, name)):
            self._known.add((kind, name))
        return (kind, name) in self._known


def _composed(kind: Kind, name: str) -> bool:
    """Whether it is a codec made of parts that are installed; no part of one is a path or a module."""
    if kind != "codec" or ":" in name:
        return False
    words = {*names("codec"), *names("stage"), *names("coder")}
    return all(part in words for part in parts_of(name))
