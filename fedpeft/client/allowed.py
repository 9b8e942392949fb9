"""Which plug-ins a coordinator may name on a device: what is installed here, and what the device's own run file names.

A plan says by name what to encode, train and score with. A name may also be a path, or any attribute of any module:
whoever sends it would choose what this device runs. So a path or a module counts only where the device's own run file
has the same; all else must be built in, or installed as an entry point.

A file need not lie at the same path on both sides. The frame tells it by content too, and the device takes its own:

    /home/operator/own.py:Mine = own.py:Mine#0f3a…  ──>  /var/lib/device/own.py:Mine, if that is own.py:Mine#0f3a…

Nothing is loaded from the path in the frame.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from fedpeft.codecs.compose import parts_of
from fedpeft.errors import ClientFault, PluginError
from fedpeft.plugin_files import offer, offered
from fedpeft.registry import Kind, names
from fedpeft.wire.files import is_file
from fedpeft.wire.frame import Frame, FrameKind


class Allowed:
    """The names that frames may have.

    Args:
        own: (kind, name) of the plug-ins in this device's run file, as they stand there; those in files are loaded.
        optimizers: the registry kind of what plans name as their optimizer.
    """

    def __init__(self, own: Iterable[tuple[Kind, str]] = (), optimizers: Kind = "optimizer") -> None:
        self._known = set(own)  # and what was looked up: a cohort's plans all name the same
        self._files = _by_content(self._known)
        self.optimizers = optimizers

    def here(self, frame: Frame) -> Frame:
        """The frame with each plug-in in a file under the name that it has in this device's run file.

        Its `files` are left with those that this device does not have; `check` refuses them. Objectives are told by
        content already.
        """
        if not frame.files or frame.plan is None:
            return frame
        lacking = dict(frame.files)

        def own(kind: Kind, asked: str) -> str:
            found = self._files.get((kind, frame.files.get(asked, "")))
            if found is None:
                return asked
            lacking.pop(asked, None)
            return found

        plan = replace(
            frame.plan,
            codec=own("codec", frame.plan.codec),
            auxiliary=own("codec", frame.plan.auxiliary),
            optimizer=own(self.optimizers, frame.plan.optimizer),
            importance=own("importance", frame.plan.importance),
        )
        sections = tuple(replace(section, codec=own("codec", section.codec)) for section in frame.sections)
        return replace(frame, plan=plan, sections=sections, files=lacking)

    def check(self, frame: Frame) -> None:
        """Refuse a frame that names anything else, before any of it is loaded.

        Args:
            frame: as `here` returns it.

        Raises:
            ClientFault: names it.
        """
        asked: list[tuple[Kind, str]] = [("codec", section.codec) for section in frame.sections]
        if (plan := frame.plan) is not None:
            asked += [("codec", plan.codec), ("codec", plan.auxiliary), ("objective", plan.objective)]
            asked += [(self.optimizers, plan.optimizer), ("importance", plan.importance)]
        for kind, name in asked:
            if name and (name in frame.files or not self.has(kind, name)):
                raise self._not_here(frame, kind, name)

    def has(self, kind: Kind, name: str) -> bool:
        """Whether a plug-in may be named."""
        if (kind, name) not in self._known and (name in names(kind) or name in offered(kind) or _composed(kind, name)):
            self._known.add((kind, name))
        return (kind, name) in self._known

    def _not_here(self, frame: Frame, kind: Kind, name: str) -> ClientFault:
        why = "is neither installed here nor in this device's run file"
        remedy = "install it on both sides, or name it in both run files"
        if name in frame.files:
            called, _, _ = frame.files[name].partition("#")  # own.py:Mine
            file = called.split(":")[0]
            if any(of == kind and own.startswith(f"{called}#") for of, own in self._files):
                why = f"is not in this device's run file, but another version of {file} is"
            remedy = f"copy the coordinator's {file} to this device, to any folder, and name it in its run file"
        elif is_file(name):  # a coordinator of an older version
            remedy = "name it in both run files, and install the same fedpeft on both sides"
        return ClientFault(
            f'client {frame.client}: {kind} "{name}" {why}',
            code="client.no-plugin",
            allowed=", ".join(sorted({*names(kind), *offered(kind)})),
            remedy=remedy,
        )


def as_asked(reply: Frame, asked: Frame, here: Frame) -> Frame:
    """An update with the names that the frame asked for it by.

    Args:
        reply: to the frame.
        asked: the frame as it came.
        here: as `Allowed.here` returned it.
    """
    if asked.plan is None or here.plan is None or reply.kind is not FrameKind.UPDATE:
        return reply
    own, auxiliary = here.plan.auxiliary, asked.plan.auxiliary
    sections = tuple(replace(one, codec=auxiliary) if one.codec == own else one for one in reply.sections)
    return replace(reply, codec=asked.plan.codec, sections=sections)


def _by_content(own: Iterable[tuple[Kind, str]]) -> Mapping[tuple[Kind, str], str]:
    """(kind, name by content) -> name, of the plug-ins in files among these."""
    found: dict[tuple[Kind, str], str] = {}
    for kind, name in sorted(own):
        if is_file(name):
            with suppress(PluginError):  # what cannot be loaded is told when the run file is checked
                found[kind, offer(kind, name, Path.cwd())] = name
    return found


def _composed(kind: Kind, name: str) -> bool:
    """Whether it is a codec made of parts that are installed; no part of one is a path or a module."""
    if kind != "codec" or ":" in name:
        return False
    words = {*names("codec"), *names("stage"), *names("coder")}
    return all(part in words for part in parts_of(name))
