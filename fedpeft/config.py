"""A run file (TOML) -> `RunConfig`. Every field says its unit and what it may be; every error names key, value, remedy.

The classes below are the reference of the run file: one class a table, one field a key. `load_run_file` reads a file,
applies overrides and returns a validated, frozen configuration; `RunConfig.to_toml` writes the resolved one back.
"""

from __future__ import annotations

import math
import os
import re
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import tomlkit
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from fedpeft.errors import ConfigError
from fedpeft.explain import Contradiction, explain

Positive = Annotated[int, Field(gt=0, lt=2**31)]
Natural = Annotated[int, Field(ge=0, lt=2**31)]
Seed = Annotated[int, Field(ge=0, lt=2**64)]
FaultKind = Literal["drop", "crash", "corrupt", "nan", "slow"]


class Table(BaseModel):
    """A table of the run file: unknown keys are errors, values are frozen."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class PluginTable(BaseModel):
    """A table that names a plug-in; every further key is a parameter of that plug-in. Numbers must be finite."""

    model_config = ConfigDict(extra="allow", frozen=True, strict=True)

    name: str

    @model_validator(mode="after")
    def _finite(self) -> PluginTable:
        for key, value in self.params.items():
            if isinstance(value, float) and not math.isfinite(value):
                raise Contradiction(
                    f"{key} = {value} is not a finite number", allowed="a finite number", remedy=f"correct {key}"
                )
        return self

    @property
    def params(self) -> dict[str, Any]:
        """The plug-in's own parameters."""
        return dict(self.model_extra or {})


class RunTable(Table):
    """`[run]`: what is run and for how long."""

    name: str = Field(  # names the folder of the run
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$",
        max_length=100,
        description="letters, digits, '.', '_' and '-', first a letter or a digit, at most 100 characters",
    )
    rounds: Positive
    seed: Seed = 0  # fixes sampling, initialisation, data order; uint64
    folder: str = "runs"  # results go to FOLDER/NAME; relative to the working folder


class ModelTable(Table):
    """`[model]`: the frozen base and how it is put to the task."""

    source: str  # folder, hub id, or "package:NAME" for a Python package that carries a model folder
    name: str | None = None  # hub id that the exported adapter names as its base; default: `source` unless a package
    task: str = "label-names"  # label-names | linear-head
    temperature: float = Field(20.0, gt=0)  # label-names: multiplies the cosine before the softmax
    max_length: Positive = 64  # tokens a text is cut to
    dtype: Literal["fp32", "bf16"] = "fp32"  # of the frozen base; the adapter and its optimizer are always fp32


class AdapterTable(Table):
    """`[adapter]`: what is trained. LoRA's layers are HF peft's; the other keys are LoRA's."""

    type: str = "lora"  # lora | bitfit | ssf
    rank: Positive = 8  # checked against the model's layers when the model is known
    alpha: float = Field(16.0, gt=0)  # LoRA scaling is alpha / rank
    target_modules: str | list[str] = "all-linear"  # names as peft takes them, or "all-linear"
    dropout: float = Field(0.0, ge=0, lt=1)


class DataTable(Table):
    """`[data]`: where the examples come from and how they are dealt to the clients."""

    source: str = "assistant"  # assistant (generated) | csv
    folder: str | None = None  # of csv files; default: the environment variable FEDPEFT_DATA
    train: str | None = None  # csv: training file, relative to the folder
    test: str | None = None  # csv: test file
    text: str = "text"  # csv: column of the text
    label: str = "label"  # csv: column of the label
    partition: PluginTable | None = None  # csv: e.g. { name = "dirichlet", alpha = 0.5 }
    client_test: float = Field(0.1, ge=0, lt=1)  # share of a client's examples kept for its own evaluation


class DeviceTable(Table):
    """`[[devices]]`: a class of devices. Times are simulated on a virtual clock; they cost no waiting."""

    name: str
    clients: Positive  # how many clients are of this class
    step_seconds: float = Field(0.5, gt=0)  # one optimizer step of the run's batch size
    up_mbps: float = Field(10.0, gt=0)  # uplink, megabits per second
    down_mbps: float = Field(50.0, gt=0)  # downlink
    memory_mb: Positive = 4096
    steps: Positive | None = None  # optimizer steps a round; default: local.steps
    rank: Positive | None = None  # trains the first so many components of each LoRA layer; default: all, adapter.rank


class RoundTable(Table):
    """`[round]`: whom to ask and how long to wait."""

    ask: Positive  # clients whose updates make a round
    over_select: Natural = 0  # asked beyond that; the round closes when `ask` have answered
    min_replies: Positive = 1  # fewer than this and the round is attempted again
    attempts: Positive = 3  # before the run stops with an error
    deadline_s: float = Field(3600.0, gt=0)  # on the coordinator's monotonic clock
    late: Literal["drop", "fold"] = "drop"  # a reply after its round closed: forget it, or fold it discounted
    late_discount: Annotated[float, Field(gt=0, le=1)] = 0.5  # weight factor per round of lateness, for late = "fold"


class LocalTable(Table):
    """`[local]`: what each client does in a round."""

    steps: Positive = 8
    batch_size: Positive = 16
    learning_rate: float = Field(1e-3, gt=0)
    weight_decay: float = Field(0.0, ge=0)
    max_grad_norm: float = Field(1.0, ge=0)  # 0 = no clipping
    optimizer: str = "adamw"


class CodecTable(Table):
    """`[codec]`: how deltas become bytes."""

    up: str = "int8"  # any codec
    down: Literal["int8", "fp32"] = "int8"  # versioned block-wise int8 codes, or the plain vector


class EvaluationTable(Table):
    """`[evaluation]`: on the coordinator every so many rounds; on the clients before and after."""

    every: Positive = 1  # rounds
    test_examples: Natural = 0  # of the test set used at all, a fixed sample; 0 = all
    examples: Natural = 0  # of the test set in the rounds between first and last, a fixed sample; 0 = all
    batch_size: Positive = 64
    clients: bool = True  # each client evaluates the first and the last adapter on its own held-out examples
    centralised: bool = True  # also train one adapter on the pooled data with the same number of example passes
    centralised_learning_rate: Annotated[float, Field(gt=0)] | None = None  # default: local.learning_rate


class LimitsTable(Table):
    """`[limits]`: what the guards refuse."""

    max_update_norm: float = Field(100.0, gt=0)  # L2 norm of a decoded delta
    max_examples: Positive = 1_000_000  # that one client may claim
    max_frame_mb: float = Field(256.0, gt=0)


class EngineTable(Table):
    """`[engine]`: where clients live."""

    name: Literal["local", "ray"] = "local"  # on this machine, or trained by actors on a Ray cluster (extra `ray`)
    workers: Positive | Literal["auto"] = 1  # train at once, a process each; auto: one a core of this machine, less one
    # while the centralised comparison has a process of its own. 1 on the local engine: in this process
    address: str = ""  # ray: of a running cluster, e.g. "auto" or "ray://host:10001"; "" starts one on this machine
    gpus_per_worker: float = Field(0.0, ge=0)  # ray: a share of a GPU is a fraction
    threads: Positive = 1  # of torch; one keeps runs equal bit by bit
    wire: bool = True  # pass each message through Flower's wire format, to count its bytes
    lookahead: Positive = 64  # clients handed to the trainer at once
    trainer: Literal["batched", "sequential"] = "batched"  # many clients in one pass, or one after the other
    kernel: str = "auto"  # of the frozen base's products: auto (measured) | torch | onednn
    rows: Positive = 4096  # of one pass, e.g. tokens over all its clients; more is slower where caches are small
    memory_mb: Positive = 300  # for the clients of a pass, beside the base

    @model_validator(mode="after")
    def _of_its_engine(self) -> EngineTable:
        for key, value, default in (("address", self.address, ""), ("gpus_per_worker", self.gpus_per_worker, 0.0)):
            if self.name != "ray" and value != default:
                raise Contradiction(
                    f'{key} = {value!r} contradicts engine.name = "{self.name}", which has no cluster',
                    allowed='it is a key of engine.name = "ray"',
                    remedy=f'remove engine.{key}, or set engine.name = "ray"',
                )
        if self.threads > 1 and (self.name == "ray" or self.workers != 1):
            raise Contradiction(
                f"threads = {self.threads} contradicts workers = {self.workers!r}: a worker computes with one thread",
                allowed="more threads, or more workers",
                remedy="set engine.threads = 1",
            )
        return self


class FaultTable(Table):
    """`[[faults]]`: a rehearsed failure of one client, for trying out what a run survives."""

    client: str
    rounds: list[Positive]
    kind: FaultKind
    factor: float = Field(10.0, gt=0)  # slow: how many times slower


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
    faults: list[FaultTable] = []

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


SMOKE: dict[str, Any] = {
    "run.rounds": 2,
    "local.steps": 1,
    "local.batch_size": 8,
    "round.ask": 3,
    "round.over_select": 0,
    "round.min_replies": 1,
    "evaluation.test_examples": 200,
    "evaluation.examples": 64,
}
"""`--smoke`: any run file in a few seconds, to see that it works; its figures mean nothing. What the file keeps lower
stays lower."""


def load_run_file(path: Path, overrides: Sequence[str] | Mapping[str, Any] = (), *, smoke: bool = False) -> RunConfig:
    """Read, override and validate a run file.

    Args:
        path: the TOML file. A relative `data.folder`, `model.source` folder or plug-in path in it is taken relative
            to the file's own folder.
        overrides: `table.key=value` texts, the value in TOML (bare words count as strings), or a mapping.
        smoke: apply `SMOKE` before the overrides.

    Raises:
        ConfigError: the file is missing, is not TOML, or does not validate.
    """
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(
            f"run file {path} does not exist",
            code="config.no-file",
            remedy="name a TOML run file, e.g. one of simulations/*.toml",
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"run file {path} cannot be read: {error}", code="config.no-file", remedy="check the path"
        ) from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(
            f"run file {path} is not valid TOML: {error}",
            code="config.syntax",
            remedy="correct the line that it names",
        ) from error
    if smoke:
        _apply_smoke(table)
    pairs = overrides if isinstance(overrides, Mapping) else dict(map(_parse_override, overrides))
    for key, value in pairs.items():
        _set(table, key, value)
    return resolve_paths(parse_config(table, origin=str(path)), path.parent.resolve())


def parse_config(table: Mapping[str, Any], *, origin: str) -> RunConfig:
    """Validate a table of tables.

    Raises:
        ConfigError: naming each wrong key, its value, what is allowed and what to do.
    """
    try:
        return RunConfig.model_validate(dict(table))
    except ValidationError as error:
        raise explain(error, RunConfig, origin) from None


def resolve_paths(config: RunConfig, folder: Path) -> RunConfig:
    """Make relative paths absolute, so that the resolved run file works from anywhere."""
    table = config.model_dump()
    data = table["data"]
    if data["source"] == "csv":
        data["folder"] = str(_data_folder(config, folder))
    source = config.model.source
    if not source.startswith("package:") and (folder / Path(source).expanduser()).is_dir():
        table["model"]["source"] = str((folder / Path(source).expanduser()).resolve())
    for section, key in (
        ("strategy", "name"),
        ("codec", "up"),
        ("local", "optimizer"),
        ("model", "task"),
        ("data", "source"),
    ):
        value = table[section][key]
        table[section][key] = _absolute(value, folder)
    if data["partition"] is not None:
        data["partition"]["name"] = _absolute(data["partition"]["name"], folder)
    return parse_config(table, origin="resolved run file")


def _absolute(plugin: str, folder: Path) -> str:
    """A plug-in's name; a `path/file.py:Class` relative to the run file is made absolute."""
    return str((folder / Path(plugin).expanduser()).resolve()) if ".py:" in plugin else plugin


def _data_folder(config: RunConfig, folder: Path) -> Path:
    named = config.data.folder or os.environ.get("FEDPEFT_DATA")
    if not named:
        raise ConfigError(
            f"data.folder is not set, and neither is the environment variable FEDPEFT_DATA; {config.data.train} was "
            "looked for",
            code="config.no-data-folder",
            allowed="the folder that holds the data files",
            remedy="export FEDPEFT_DATA=/path/to/data, or set data.folder in the run file",
        )
    base = folder if config.data.folder else Path.cwd()
    return (base / Path(named).expanduser()).resolve()


def _parse_override(text: str) -> tuple[str, Any]:
    key, separator, value = text.partition("=")
    if not separator or not re.fullmatch(r"[A-Za-z_][\w-]*(\.[A-Za-z_][\w-]*)+", key.strip()):
        raise ConfigError(
            f'override "{text}" is not of the form table.key=value',
            code="config.override",
            allowed="e.g. run.rounds=3, strategy.name=fedprox",
            remedy="write it so",
        )
    try:
        parsed = tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        parsed = value.strip()
    return key.strip(), parsed


def _apply_smoke(table: dict[str, Any]) -> None:
    for key, value in SMOKE.items():
        section, _, last = key.partition(".")
        keys = table.setdefault(section, {})
        if isinstance(keys, dict):  # if it is none, validation says so
            own = keys.get(last)
            keys[last] = min(own, value) if isinstance(own, int) and own > 0 else value
    devices = table.get("devices")
    for device in devices if isinstance(devices, list) else ():
        if isinstance(device, dict) and "steps" in device:
            device["steps"] = SMOKE["local.steps"]


def _set(table: dict[str, Any], key: str, value: Any) -> None:
    *parents, last = key.split(".")
    for parent in parents:
        table = table.setdefault(parent, {})
        if not isinstance(table, dict):
            raise ConfigError(
                f"override {key}={value!r}: {parent} is not a table",
                code="config.override",
                remedy="override a key of a table",
            )
    table[last] = value


def _without_none(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_none(item) for key, item in value.items() if item is not None}
    if isinstance(value, list):
        return [_without_none(item) for item in value]
    return value
