"""Where an export is written: into a new or empty folder or over an earlier export of its kind, never over a person's
own files. A model over an adapter would leave the adapter's files beside it, and who loads the model would get both.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal, TypeAlias

from fedpeft.errors import ConfigError
from fedpeft.paths import write_atomically

MARK = "fedpeft-export.json"
"""By which an earlier export is known: a merged model has no other file that a person's own model has not."""

Kind: TypeAlias = Literal["adapter", "model", "pruned model"]
"""What is exported."""


def check_export_folder(folder: Path, kind: Kind) -> None:
    """See whether an export may be written there, before anything slow is loaded.

    Raises:
        ConfigError: it is a file, or lies in one; or it has files in it, and is no earlier export of this kind.
    """
    there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not there.is_dir():
        raise ConfigError(
            f"an export is a folder, and {there} is a file",
            code="export.file",
            allowed="a folder that is new, empty, or an earlier export",
            remedy="name another folder",
        )
    try:
        own = there != folder or not any(folder.iterdir()) or (folder / MARK).is_file()
    except OSError as error:
        raise _not_written(folder, error) from error
    if not own:
        raise ConfigError(
            f"{folder} has files in it, and is no earlier export: an export would replace those of the same names",
            code="export.not-empty",
            allowed=f"a folder that is new, empty, or an earlier export: one with {MARK} in it",
            remedy=f"name a new folder, e.g. {folder / 'exported'}",
        )
    earlier = _kind_of(folder)
    if earlier not in ("", kind):
        raise ConfigError(
            f"{folder} has an earlier export in it, of a kind that is not this one: {earlier}, not {kind}",
            code="export.other-kind",
            allowed=f"a folder that is new, empty, or an earlier export of the kind {kind}",
            remedy="name another folder, or remove this one",
        )


@contextmanager
def exporting_to(folder: Path, run: str, kind: Kind) -> Iterator[None]:
    """Make the folder and mark it as an export, so that one that is cut short may be written again.

    Raises:
        ConfigError: as `check_export_folder`; or the folder cannot be written.
    """
    check_export_folder(folder, kind)
    new = not folder.exists()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        mark = {"format": "fedpeft-export-1", "run": run, "kind": kind}
        write_atomically(folder / MARK, json.dumps(mark).encode() + b"\n")
        yield
    except OSError as error:
        raise _not_written(folder, error) from error
    finally:
        if folder.is_dir() and [path.name for path in folder.iterdir()] == [MARK]:  # nothing came of it
            (folder / MARK).unlink()
            if new:
                folder.rmdir()


def _kind_of(folder: Path) -> str:
    """Of the export that is there; empty: there is none, or it does not say."""
    try:
        return str(json.loads((folder / MARK).read_bytes())["kind"])
    except (OSError, ValueError, KeyError, TypeError):
        return ""


def _not_written(folder: Path, error: OSError) -> ConfigError:
    return ConfigError(
        f"{folder} cannot be written: {error}",
        code="export.not-written",
        remedy="name a folder that can be written and has room",
    )


__all__ = ["MARK", "check_export_folder", "exporting_to"]
