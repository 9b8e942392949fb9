"""`RunConfig`: a whole run file, its tables checked against each other."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import tomlkit
from pydantic import Field, model_validator

from fedpeft.config.adapter import AdapterTable, check_ranks
from fedpeft.config.aggregation import AggregationTable
from fedpeft.config.client import ClientTable
from fedpeft.config.data import DataTable
from fedpeft.config.devices import DeviceTable, FaultTable, FleetTable, stretched
from fedpeft.config.engine import EngineTable, check_faults
from fedpeft.config.evaluation import EvaluationTable
from fedpeft.config.generation import GenerationTable
from fedpeft.config.mode import check_mode
from fedpeft.config.model import ModelTable
from fedpeft.config.precision import check_precision
from fedpeft.config.pruning import PruningTable, check_pruning
from fedpeft.config.report import ReportTable
from fedpeft.config.rounds import CodecTable, LimitsTable, LocalTable, RoundTable, RunTable
from fedpeft.config.scheduler import SchedulerTable, check_scheduler
from fedpeft.config.smaller_ranks import check_smaller_ranks
from fedpeft.config.table import PluginTable, Table
from fedpeft.config.zeroth import ZerothTable, check_zeroth
from fedpeft.explain import Contradiction


class RunConfig(Table):
    """The whole run file."""

    run: RunTable
    model: ModelTable
    adapter: AdapterTable = AdapterTable()
    data: DataTable = DataTable()
    devices: list[DeviceTable] = Field(min_length=1)
    fleet: FleetTable = FleetTable()
    round: RoundTable
    local: LocalTable = LocalTable()
    zeroth: ZerothTable | None = None  # there: train without gradients, by seeds and scalars or by deltas
    pruning: PruningTable = PruningTable()
    client: ClientTable = ClientTable()
    strategy: PluginTable = PluginTable(name="fedavg")
    scheduler: SchedulerTable | None = None  # there: picks each client's rank, pruning ratio, codec and steps
    aggregation: AggregationTable = AggregationTable()
    codec: CodecTable = CodecTable()
    evaluation: EvaluationTable = EvaluationTable()
    generation: GenerationTable = GenerationTable()
    limits: LimitsTable = LimitsTable()
    engine: EngineTable = EngineTable()
    report: ReportTable = ReportTable()
    faults: list[FaultTable] = Field(default_factory=list)

    @property
    def clients(self) -> int:
        """Number of clients over all device classes."""
        return sum(device.clients for device in self.devices)

    @property
    def device_classes(self) -> list[DeviceTable]:
        """`[[devices]]` with the speeds and lines that `fleet.inequality` makes of theirs."""
        return stretched(self.devices, self.fleet.inequality)

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
        check_mode(self.round, self.clients)
        check_faults(self.engine, self.faults)
        if self.round.min_replies > self.round.updates:
            key = "round.ask" if self.round.updates == self.round.ask else "round.buffer"
            raise Contradiction(
                f"round.min_replies = {self.round.min_replies} is more than {key} = {self.round.updates}",
                allowed=f"1 to {self.round.updates}",
                remedy="lower round.min_replies",
            )
        check_ranks(self.adapter, self.devices)
        if self.adapter.merged and self.aggregation.rule is None:
            raise Contradiction(
                f"adapter.merged = {self.adapter.merged}, and no aggregation.rule that would put anything there",
                allowed="aggregation.rule = fedex, flora or exact-mix",
                remedy="name the rule, or remove adapter.merged",
            )
        check_precision(self.model, self.adapter, self.local, self.engine)
        check_zeroth(self)
        check_scheduler(self)
        check_smaller_ranks(self)
        check_pruning(self)
        names = [device.name for device in self.devices]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise Contradiction(
                f'devices.name = "{twice[0]}" is there twice',
                allowed="a name of its own for each class",
                remedy="rename one of them",
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
