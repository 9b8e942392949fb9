"""`--round` and `--client`: which adapter of a run a command takes."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, TypeAlias

import typer


class Which(StrEnum):
    """Whose adapter: see `fedpeft.api.export`."""

    KEPT = "kept"
    LAST = "last"
    BEST = "best"


WhichOption: TypeAlias = Annotated[
    Which, typer.Option("--round", help="kept: as evaluation.keep says; or the last round, or the best.")
]

ClientOption: TypeAlias = Annotated[
    str | None, typer.Option("--client", help="Whose, where tensors are private: its own with what is shared.")
]
