"""Names -> plug-ins. One file, one line here: that is all it takes to add a method.

A plug-in is named in one of these ways, wherever a run file or an argument takes a name:

    "fedavg"                    built in: a line in `BUILTIN`
    "my-rule"                   installed: an entry point of the group `fedpeft.strategy`, `fedpeft.codec`, ...
    "my/rule.py:MyRule"         a file: loaded from its path, which may be relative to the run file
    "my_package.rules:MyRule"   a module that can be imported
    "flower:FedAdam"            of a family: something in `FAMILIES` knows what the rest stands for
    "topk(0.05)+fp16"           composed: something in `COMPOSED` takes the name apart

Built-ins are written as `module:attribute` and imported only when asked for, so that listing names costs nothing.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Mapping
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any, Literal, TypeAlias

from fedpeft.errors import PluginError, closest
from fedpeft.plugin_files import is_offer, load_file, load_module, load_offered

Kind: TypeAlias = Literal[
    "strategy",
    "rule",
    "codec",
    "stage",
    "coder",
    "objective",
    "optimizer",
    "adapter",
    "kernel",
    "partitioner",
    "source",
    "reader",
    "task",
    "model",
    "schedule",
    "sink",
    "mod",
    "pool",
    "estimator",
    "coefficient_optimizer",
    "zeroth_optimizer",
    "scheduler",
    "importance",
]

KEYS: dict[Kind, str] = {
    "strategy": "strategy.name",
    "rule": "aggregation.rule",
    "optimizer": "local.optimizer",
    "adapter": "adapter.type",
    "kernel": "engine.kernel",
    "partitioner": "data.partition.name",
    "source": "data.source",
    "reader": "data.format",
    "task": "model.task",
    "model": "model.source",
    "schedule": "local.schedule.name",
    "sink": "report.sinks",
    "mod": "client.mods",
    "pool": "zeroth.pool",
    "estimator": "zeroth.estimator.name",
    "coefficient_optimizer": "zeroth.optimizer.name",
    "zeroth_optimizer": "local.optimizer",
    "scheduler": "scheduler.name",
    "importance": "pruning.importance.name",
}
"""The key of a run file that names a kind, for errors. Codecs stand under several: who builds one says which. Stages
and coders are parts of a codec, and an objective comes with its strategy."""

PEFT_TYPES = (
    *("adamss", "beft", "boft", "c3a", "deft", "delora", "fourierft", "frod"),
    *("glora", "gralora", "hira", "hra", "ia3", "lily", "ln_tuning", "loha"),
    *("lokr", "miss", "oft", "p_tuning", "peanut", "prefix_tuning", "prompt_tuning", "psoft"),
    *("pvera", "randlora", "road", "shira", "supertuning", "tinylora", "trainable_tokens", "unilora"),
    *("vblora", "vera", "waveft"),
)
"""Types of HF peft beside LoRA, by peft's own names; what it brings and a federation cannot train: `config.adapter`."""

BUILTIN: dict[Kind, dict[str, str]] = {
    "strategy": {
        "fedavg": "fedpeft.strategies.fedavg:FedAvg",
        "fedprox": "fedpeft.strategies.fedprox:FedProx",
        "fedavgm": "fedpeft.strategies.fedavgm:FedAvgM",
        "fedbuff": "fedpeft.strategies.fedbuff:FedBuff",
        "fedadam": "fedpeft.strategies.fedadam:FedAdam",
        "fedyogi": "fedpeft.strategies.fedyogi:FedYogi",
        "fedadagrad": "fedpeft.strategies.fedadagrad:FedAdagrad",
        "scaffold": "fedpeft.strategies.scaffold:Scaffold",
        "fedsa": "fedpeft.strategies.fedsa:FedSA",
        "ffa": "fedpeft.strategies.ffa:FFA",
        "rolora": "fedpeft.strategies.rolora:RoLoRA",
        "median": "fedpeft.strategies.median:Median",
        "trimmed-mean": "fedpeft.strategies.trimmed_mean:TrimmedMean",
        "sign-vote": "fedpeft.strategies.sign_vote:SignVote",
    },
    "rule": {  # of mixing LoRA factors
        "fedit": "fedpeft.aggregation.rules.fedit:FedIT",
        "hetlora": "fedpeft.aggregation.rules.hetlora:HetLoRA",
        "flexlora": "fedpeft.aggregation.rules.flexlora:FlexLoRA",
        "lora-fair": "fedpeft.aggregation.rules.lora_fair:LoraFair",
        "fedex": "fedpeft.aggregation.rules.fedex:FedEx",
        "flora": "fedpeft.aggregation.rules.flora:FLoRA",
        "exact-mix": "fedpeft.aggregation.rules.exact_mix:ExactMix",
    },
    "codec": {
        "fp32": "fedpeft.codecs.fp32:Fp32",
        "fp16": "fedpeft.codecs.fp16:Fp16",
        "int8": "fedpeft.codecs.int8:Int8",
        "sign": "fedpeft.codecs.sign:Sign",
        "bf16": "fedpeft.codecs.bf16:Bf16",
        "int4": "fedpeft.codecs.int4:Int4",
        "bitdelta": "fedpeft.codecs.bitdelta:BitDelta",
        "compeft": "fedpeft.codecs.compeft:compeft",
    },
    "stage": {  # of a composed codec, before the last: `rotate+int4`
        "rotate": "fedpeft.codecs.rotate:Rotated",
        "topk": "fedpeft.codecs.topk:TopK",
        "dare": "fedpeft.codecs.dare:Dare",
        "forget": "fedpeft.codecs.forget:Forgetful",
        "relax": "fedpeft.codecs.relax:Relaxed",
        "uniform": "fedpeft.codecs.uniform:Uniform",
        "lowrank": "fedpeft.codecs.lowrank:LowRank",
        "sketch": "fedpeft.codecs.sketch:Sketch",
        "lgreco": "fedpeft.codecs.lgreco:LGreCo",
    },
    "coder": {  # of whole numbers, behind `uniform`
        "zstd": "fedpeft.codecs.coders.zstd:Zstd",
        "ans": "fedpeft.codecs.coders.ans:Ans",
    },
    "objective": {
        "plain": "fedpeft.training.objectives.plain:Plain",
        "proximal": "fedpeft.training.objectives.proximal:Proximal",
        "scaffold": "fedpeft.training.objectives.scaffold:Scaffold",
        "small-tail": "fedpeft.training.objectives.small_tail:SmallTail",
    },
    "optimizer": {
        "adamw": "fedpeft.training.optimizers:adamw",
        "sgd": "fedpeft.training.optimizers:sgd",
    },
    "schedule": {
        "constant": "fedpeft.server.schedules:Constant",
        "linear": "fedpeft.server.schedules:Linear",
        "cosine": "fedpeft.server.schedules:Cosine",
        "step": "fedpeft.server.schedules:Step",
    },
    "sink": {
        "csv": "fedpeft.report.sinks.csv:CsvSink",
        "jsonl": "fedpeft.report.sinks.jsonl:JsonLinesSink",
        "tensorboard": "fedpeft.report.sinks.tensorboard:TensorBoardSink",
        "trackio": "fedpeft.report.sinks.trackio:TrackioSink",
    },
    "pool": {
        "hadamard": "fedpeft.zeroth.hadamard:HadamardPool",
        "independent": "fedpeft.zeroth.independent:IndependentPool",
        "fresh": "fedpeft.zeroth.fresh:FreshPool",
        "near-gaussian": "fedpeft.zeroth.near_gaussian:NearGaussianPool",
        "gaussian": "fedpeft.zeroth.gaussian:GaussianPool",
    },
    "estimator": {
        "two-point": "fedpeft.training.zeroth.estimators.two_point:TwoPoint",
        "forward": "fedpeft.training.zeroth.estimators.forward:Forward",
        "forward-gradient": "fedpeft.training.zeroth.estimators.forward_gradient:ForwardGradient",
    },
    "coefficient_optimizer": {
        "sgd": "fedpeft.zeroth.optimizers.sgd:Sgd",
        "momentum": "fedpeft.zeroth.optimizers.momentum:Momentum",
        "sign": "fedpeft.zeroth.optimizers.sign:Sign",
        "adam": "fedpeft.zeroth.optimizers.adam:Adam",
        "spsa-gc": "fedpeft.zeroth.optimizers.spsa_gc:SpsaGc",
        "adamu": "fedpeft.zeroth.optimizers.adamu:AdaMU",
    },
    "zeroth_optimizer": {
        "sgd": "fedpeft.training.zeroth.local.sgd:ZoSgd",
        "zo-adam": "fedpeft.training.zeroth.local.adam:ZoAdam",
        "zo-adamu": "fedpeft.training.zeroth.local.adamu:ZoAdaMU",
    },
    "scheduler": {
        "fixed": "fedpeft.scheduling.fixed:Fixed",
        "random": "fedpeft.scheduling.uniform:Uniform",
        "ucb": "fedpeft.scheduling.ucb:Ucb",
        "thompson": "fedpeft.scheduling.thompson:Thompson",
        "tree": "fedpeft.scheduling.tree:Tree",
        "exp3": "fedpeft.scheduling.exp3:Exp3",
        "oracle": "fedpeft.scheduling.oracle:Oracle",
        "pacing": "fedpeft.scheduling.pacing:Pacing",
    },
    "importance": {
        "lora-gradient": "fedpeft.pruning.importance.lora_gradient:LoraGradient",
        "magnitude": "fedpeft.pruning.importance.magnitude:Magnitude",
        "random": "fedpeft.pruning.importance.random:Random",
    },
    "mod": {
        "message-size": "flwr.clientapp.mod:message_size_mod",
        "arrays-size": "flwr.clientapp.mod:arrays_size_mod",
    },
    "adapter": {
        **dict.fromkeys(("lora", "dora", "rslora", "pissa"), "fedpeft.adapters.kinds.lora:lora"),
        "bitfit": "fedpeft.adapters.kinds.bitfit:bitfit",
        "full": "fedpeft.adapters.kinds.full:full",
        "ssf": "fedpeft.adapters.kinds.ssf:ssf",
        "saved": "fedpeft.adapters.kinds.by_config:saved",
        **{name: f"fedpeft.adapters.kinds.by_config:{name}" for name in PEFT_TYPES},
    },
    "kernel": {
        "torch": "fedpeft.kernels.native:Native",
        "onednn": "fedpeft.kernels.onednn:OneDnn",
    },
    "partitioner": {
        "iid": "fedpeft.data.partition.iid:iid",
        "dirichlet": "fedpeft.data.partition.dirichlet:dirichlet",
        "pathological": "fedpeft.data.partition.pathological:pathological",
        "shard": "fedpeft.data.partition.shard:shard",
        "natural-id": "fedpeft.data.partition.natural_id:natural_id",
        "linear": "fedpeft.data.partition.sizes:linear",
        "square": "fedpeft.data.partition.sizes:square",
        "exponential": "fedpeft.data.partition.sizes:exponential",
        "distribution": "fedpeft.data.partition.distribution:distribution",
    },
    "source": {
        "assistant": "fedpeft.data.assistant.source:assistant",
        "files": "fedpeft.data.files:files",
        "csv": "fedpeft.data.files:csv_files",
        "hub": "fedpeft.data.hub:hub",
    },
    "reader": {
        "csv": "fedpeft.data.readers.csv:read_csv",
        "tsv": "fedpeft.data.readers.csv:read_tsv",
        "json": "fedpeft.data.readers.json:read_json",
        "jsonl": "fedpeft.data.readers.json:read_jsonl",
        "parquet": "fedpeft.data.readers.parquet:read_parquet",
        "image": "fedpeft.data.readers.image:read_image",
    },
    "task": {
        "label-names": "fedpeft.training.tasks.label_names:LabelNames",
        "linear-head": "fedpeft.training.tasks.linear_head:LinearHead",
        "causal-lm": "fedpeft.training.tasks.causal_lm:CausalLanguageModel",
        "instructions": "fedpeft.training.tasks.instructions:Instructions",
        "images": "fedpeft.training.tasks.images:Images",
    },
    "model": {},  # folders, hub ids and packages need no name here; path/file.py:function makes a module of one's own
}


FAMILIES: dict[tuple[Kind, str], str] = {("strategy", "flower"): "fedpeft.flower.stock_names:stock"}
"""What answers for the names `FAMILY:rest` of a kind: a function of the rest and of the folder of relative paths."""

COMPOSED: dict[Kind, str] = {"codec": "fedpeft.codecs.compose:composed"}
"""What answers for names made of several, `topk(0.05)+fp16`: a function of the name."""


def split_family(kind: Kind, name: str) -> tuple[str, str]:
    """`flower:FedAdam` -> ("flower", "FedAdam"); of a name without a family ("", name)."""
    family, separator, rest = name.partition(":")
    return (family, rest) if separator and (kind, family) in FAMILIES else ("", name)


@cache
def _family(kind: Kind, family: str) -> Any:
    module, attribute = FAMILIES[kind, family].split(":")
    return getattr(importlib.import_module(module), attribute)


@cache
def _composed(kind: Kind, name: str) -> Any:
    module, attribute = COMPOSED[kind].split(":")
    return getattr(importlib.import_module(module), attribute)(name)


def names(kind: Kind) -> list[str]:
    """All known names of a kind, built-in and installed, sorted."""
    return sorted({*BUILTIN[kind], *(point.name for point in _installed(kind))})


@cache
def _installed(kind: Kind) -> tuple[EntryPoint, ...]:
    """What installed packages bring; looked up once a process, since it reads the metadata of every package."""
    return tuple(entry_points(group=f"fedpeft.{kind}"))


@cache
def _builtin(kind: Kind, name: str) -> Any:
    module, attribute = BUILTIN[kind][name].split(":")
    return getattr(importlib.import_module(module), attribute)


def load(kind: Kind, name: str, *, relative_to: Path | None = None) -> Any:
    """The class or function behind a name.

    Args:
        kind: which family of plug-ins.
        name: in one of the ways above.
        relative_to: folder against which a relative file path is taken; default: the working folder.

    Raises:
        PluginError: no such name, file or attribute, or the file fails to import; names the run file's key.
    """
    try:
        return _load(kind, name, relative_to or Path.cwd())
    except PluginError as error:
        key = KEYS.get(kind)
        if key and not error.message.startswith(f"{key}: "):  # a family asks here again
            error.locate(key)
        raise


def _load(kind: Kind, name: str, folder: Path) -> Any:
    family, own_name = split_family(kind, name)
    if family:
        return _family(kind, family)(own_name, folder)
    if is_offer(name):
        return load_offered(kind, name)
    if ".py:" in name:
        return load_file(kind, name, folder)
    if name in BUILTIN[kind]:
        return _builtin(kind, name)
    for point in _installed(kind):
        if point.name == name:
            try:
                return point.load()
            except Exception as error:
                raise PluginError(
                    f'{kind} "{name}": {point.value} failed to import: {type(error).__name__}: {error}',
                    code="plugin.import",
                    remedy="repair or remove the package that brings it",
                ) from error
    if ":" in name:
        return load_module(kind, name)
    if kind in COMPOSED:
        return _composed(kind, name)  # or it says what a single word is a part of
    raise PluginError(
        f'{kind} "{name}" is not known',
        code=f"plugin.unknown-{kind}",
        allowed=", ".join(names(kind)) + ", or path/file.py:Class",
        remedy=closest(name, names(kind)) or "name one of these, or install the package that brings it",
    )


def build(kind: Kind, name: str, params: Mapping[str, Any], *, relative_to: Path | None = None) -> Any:
    """Load a plug-in and call it with its parameters.

    Raises:
        PluginError: as `load`; or a parameter is unknown, missing or refused by the plug-in.
    """
    target = load(kind, name, relative_to=relative_to)
    named = _named(kind, name)
    if not callable(target):
        raise PluginError(
            f"{named} is a {type(target).__name__}: it cannot be called",
            code="plugin.not-callable",
            allowed="a class, or a function",
            remedy="name another attribute of the file",
        )
    known, required, takes_any = _parameters(target)
    for key, value in params.items():
        if key not in known and not takes_any:
            raise PluginError(
                f"{named} has no parameter {key} (= {value!r})",
                code=f"plugin.{kind}-parameter",
                allowed=", ".join(known) or "no parameters",
                remedy=closest(key, known) or f"remove {key}",
            )
    missing = [key for key in required if key not in params]
    if missing:
        raise PluginError(
            f"{named} needs the parameter {missing[0]}, and it is not given",
            code=f"plugin.{kind}-parameter",
            allowed=", ".join(known),
            remedy=f"give {missing[0]} a value",
        )
    try:
        return target(**params)
    except (TypeError, ValueError) as error:
        raise PluginError(
            f"{named} refused its parameters {_told(params)}: {error}",
            code=f"plugin.{kind}-parameter",
            allowed=", ".join(known) or "no parameters",
            remedy="correct the value in the run file",
        ) from error


def _named(kind: Kind, name: str) -> str:
    """A plug-in as an error about its parameters names it; they stand in the run file beside its name."""
    table = KEYS.get(kind, "").removesuffix(".name")
    return f'{table and f"{table}: "}{kind} "{name}"'


def _told(params: Mapping[str, Any]) -> str:
    """Parameters as an error names them: of another plug-in, e.g. the codec inside a stage, its name."""
    values = ", ".join(f"{key} = {getattr(value, 'name', value)!r}" for key, value in params.items())
    return values or "(none)"


def parameters(kind: Kind, name: str) -> tuple[str, ...]:
    """Names of what a plug-in can be called with, in order. Errors as `load`."""
    return _parameters(load(kind, name))[0]


@cache
def _parameters(target: Any) -> tuple[tuple[str, ...], tuple[str, ...], bool]:
    """Names that a plug-in can be called with, those that it cannot do without, and whether it takes any other.

    Looked up once: of a class without a constructor, Python parses a text to find it, and a trainer builds an
    objective for every client.
    """
    parameters = inspect.signature(target).parameters.values()
    named = [one for one in parameters if one.kind in (one.POSITIONAL_OR_KEYWORD, one.KEYWORD_ONLY)]
    known = tuple(one.name for one in named)
    required = tuple(one.name for one in named if one.default is one.empty)
    return known, required, any(one.kind is one.VAR_KEYWORD for one in parameters)
