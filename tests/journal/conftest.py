"""A journal in a temporary run folder."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from fedpeft.journal import Journal


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "runs" / "demo"


@pytest.fixture
def journal(folder: Path) -> Iterator[Journal]:
    with Journal.create(folder, run="demo", config_toml="[run]\nrounds = 3\n") as opened:
        yield opened
