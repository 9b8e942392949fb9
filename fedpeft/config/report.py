"""`[report]`: where a run's figures go beside its own report."""

from __future__ import annotations

from pydantic import Field

from fedpeft.config.table import Table


class ReportTable(Table):
    """`[report]`: sinks are fed from the journal, into the run's folder."""

    sinks: list[str] = Field(default_factory=list)  # csv, jsonl, tensorboard, trackio; or path/file.py:Class
