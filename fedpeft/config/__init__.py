"""A run file (TOML) -> `RunConfig`. Every field says its unit and what it may be; every error names key, value, remedy.

The classes of this package are the reference of the run file: one class a table, one field a key. `load_run_file` reads
a file, applies overrides and returns a validated, frozen configuration; `RunConfig.to_toml` writes the resolved one
back.
"""

from fedpeft.config.data import DataTable
from fedpeft.config.devices import DeviceTable, FaultKind, FaultTable
from fedpeft.config.engine import EngineTable
from fedpeft.config.loading import load_run_file, parse_config, resolve_paths
from fedpeft.config.model import AdapterTable, ModelTable
from fedpeft.config.overrides import SMOKE
from fedpeft.config.rounds import CodecTable, EvaluationTable, LimitsTable, LocalTable, RoundTable, RunTable
from fedpeft.config.run_config import RunConfig
from fedpeft.config.table import PluginTable, Table

__all__ = [
    "SMOKE",
    "AdapterTable",
    "CodecTable",
    "DataTable",
    "DeviceTable",
    "EngineTable",
    "EvaluationTable",
    "FaultKind",
    "FaultTable",
    "LimitsTable",
    "LocalTable",
    "ModelTable",
    "PluginTable",
    "RoundTable",
    "RunConfig",
    "RunTable",
    "Table",
    "load_run_file",
    "parse_config",
    "resolve_paths",
]
