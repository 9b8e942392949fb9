"""A run file (TOML) -> `RunConfig`. Every field says its unit and what it may be; every error names key, value, remedy.

The classes of this package are the reference of the run file: one class a table, one field a key. `load_run_file` reads
a file, applies overrides and returns a validated, frozen configuration; `RunConfig.to_toml` writes the resolved one
back.
"""

from fedpeft.config.adapter import AdapterTable
from fedpeft.config.aggregation import AggregationTable
from fedpeft.config.data import DataTable, PartitionTable
from fedpeft.config.devices import DeviceTable, FaultKind, FaultTable, FleetTable
from fedpeft.config.engine import EngineTable
from fedpeft.config.evaluation import EvaluationTable
from fedpeft.config.generation import GenerationTable
from fedpeft.config.loading import load_run_file, parse_config, resolve_paths
from fedpeft.config.model import ModelTable
from fedpeft.config.overrides import SMOKE
from fedpeft.config.pruning import PruningTable
from fedpeft.config.report import ReportTable
from fedpeft.config.rounds import CodecTable, LimitsTable, LocalTable, RoundTable, RunTable
from fedpeft.config.run_config import RunConfig
from fedpeft.config.scheduler import ArmsTable, SchedulerTable
from fedpeft.config.table import PluginTable, Table
from fedpeft.config.zeroth import ZerothTable

__all__ = [
    "SMOKE",
    "AdapterTable",
    "AggregationTable",
    "ArmsTable",
    "CodecTable",
    "DataTable",
    "DeviceTable",
    "EngineTable",
    "EvaluationTable",
    "FaultKind",
    "FaultTable",
    "FleetTable",
    "GenerationTable",
    "LimitsTable",
    "LocalTable",
    "ModelTable",
    "PartitionTable",
    "PluginTable",
    "PruningTable",
    "ReportTable",
    "RoundTable",
    "RunConfig",
    "RunTable",
    "SchedulerTable",
    "Table",
    "ZerothTable",
    "load_run_file",
    "parse_config",
    "resolve_paths",
]
