"""`RunConfig`: a whole run file, its tables checked against each other."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import tomlkit
from pydantic import Field, model_validator

from fedpeft.config.data import DataTable
from fedpeft.config.devices import DeviceTable, FaultTable
from fedpeft.config.engine import EngineTable
from fedpeft.config.model import AdapterTable, ModelTable
from fedpeft.config.rounds import CodecTable, EvaluationTable, LimitsTable, LocalTable, RoundTable, RunTable
from fedpeft.config.table import PluginTable, Table
from fedpeft.explain import Contradiction


class RunConfig(Table):
    """The whole run file."""

    run: RunTable
    model: ModelTable
    adapter: AdapterTable = AdapterTable()
    data: DataTable = DataTable()
    devices: list[DeviceTable] = Field(min_length=1)
    round: RoundTable
    local: LocalTable = LocalTable()
    strategy: PluginTable = PluginTable(name="fedavg")
    codec: CodecTable = CodecTable()
    evaluation: EvaluationTable = EvaluationTable()
    limits: LimitsTable = LimitsTable()
    engine: EngineTable = EngineTable()
    faults: list[FaultTable] = Field(default_factory=list)

    @property
    def clients(self) -> int:
        """Number of clients over all device classes."""
        return sum(device.clients for device in self.devices)

    @property
    def folder(self) -> Path:
        """Where this run keeps everything."""
        return Path(self.run.folder) / self.run.name

    @model_validator(mode="after")
    def _consistent(self) -> RunConfig:
        asked = self.round.ask + self.round.over_select
        if asked > self.clients:
            raise Contradiction(
                f"round.ask + round.over_select = {asked}, but [[devices]] has only {self.clients} clients",
                allowed=f"at most {self.clients}",
                remedy="ask fewer, or add clients",
            )
        if self.round.min_replies > self.round.ask:
            raise Contradiction(
                f"round.min_replies = {self.round.min_replies} is more than round.ask = {self.round.ask}",
                allowed=f"1 to {self.round.ask}",
                remedy="lower round.min_replies",
            )
        for device in self.devices:
            if device.rank is not None and device.rank > self.adapter.rank:
                raise Contradiction(
                    f'devices.rank = {device.rank} of class "{device.name}" is more than adapter.rank',
                    allowed=f"1 to {self.adapter.rank}",
                    remedy="lower it, or raise adapter.rank",
                )
        names = [device.name for device in self.devices]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise Contradiction(
                f'devices.name = "{twice[0]}" is there twice',
                allowed="a name of its own for each class",
                remedy="rename one of them",
            )
        if self.data.source == "csv":
            for key in ("train", "test", "partition"):
                if getattr(self.data, key) is None:
                    raise Contradiction(
                        f'data.{key} is missing, and data.source = "csv" needs it',
                        allowed="data.train, data.test and data.partition",
                        remedy=f"add data.{key}",
                    )
        elif self.data.source == "assistant":
            for key in ("train", "test", "partition", "folder"):
                if getattr(self.data, key) is not None:
                    raise Contradiction(
                        f'data.{key} contradicts data.source = "assistant", which generates its data',
                        allowed="data.client_test beside it",
                        remedy=f'remove data.{key}, or set data.source = "csv"',
                    )
        return self

    def to_toml(self) -> str:
        """The resolved run file: every key with the value that was used."""
        return tomlkit.dumps(_without_none(self.model_dump(mode="json")))


def _without_none(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_none(item) for key, item in value.items() if item is not None}
    if isinstance(value, list):
        return [_without_none(item) for item in value]
    return value
