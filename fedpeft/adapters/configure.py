"""From an `[adapter]` table to a configuration object of peft: our few names to its own, every other key as it is.

    rank -> r      alpha -> lora_alpha, alpha, ...      dropout -> lora_dropout, miss_dropout, ...

A type that has no such setting leaves it unused, so that one run file tries several types; `unused` says which. Peft's
own keys are strict: an unknown one, or a value of another kind, is an error.
"""

from __future__ import annotations

import dataclasses
import re
import typing
from collections.abc import Mapping, Sequence
from typing import Any

import peft
import pydantic
from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING

from fedpeft.config import AdapterTable
from fedpeft.config.adapter import LORA_DEFAULTS, LORA_VARIANTS, NOT_FEDERATED, WITHOUT_PEFT
from fedpeft.errors import ModelError, closest

VARIANTS: dict[str, dict[str, Any]] = {
    "dora": {"use_dora": True},  # Liu et al. 2024, arXiv 2402.09353
    "rslora": {"use_rslora": True},  # Kalajdzievski 2023, arXiv 2312.03732
    "pissa": {"init_lora_weights": "pissa"},  # Meng et al. 2024, arXiv 2404.02948
}
"""LoRA under another name: what the name sets."""

OURS = {"task_type", "peft_type", "auto_mapping", "peft_version", "base_model_name_or_path", "revision"}
"""Fields that follow from the model and the task, and are no settings."""

NOT_SETTINGS = OURS | {"inference_mode", "runtime_config", "megatron_config", "megatron_core"}

SILENT: dict[str, dict[str, Any]] = {"frod": {"progressbar": False}}
"""What a type prints unless it is told not to."""

OWN_TARGETS = ("ia3", "ln_tuning", "trainable_tokens", "beft")
"""Types that peft knows the right modules for by architecture; all others sit on all linear layers."""


def config_class(kind: str) -> Any:
    """Peft's configuration class of a type, e.g. `ia3`, or of a variant of LoRA.

    Raises:
        ModelError: this peft has no such type.
    """
    name = "lora" if kind in LORA_VARIANTS else kind
    classes = {str(known.value).lower(): found for known, found in PEFT_TYPE_TO_CONFIG_MAPPING.items()}
    if name not in classes:
        raise ModelError(
            f'adapter.type = "{kind}": peft {peft.__version__} has no such type',
            code="adapter.kind",
            allowed=", ".join(sorted(set(classes) - set(NOT_FEDERATED))),
            remedy="install a newer peft, or choose one of these",
        )
    return classes[name]


def peft_config(
    table: AdapterTable,
    *,
    classifier: bool = False,
    fresh: Sequence[str] = (),
    linear: Sequence[str] = (),
    pooler: bool = False,
) -> Any:
    """The peft configuration of an `[adapter]` table.

    Args:
        table: any type of peft's; `start` is not looked at.
        classifier: the base is a sequence classifier.
        fresh: modules that the checkpoint lacks (`BaseModel.fresh`), the head among them. Nobody else has their
            values, so they are trained whole and travel with the adapter.
        linear: names of the base's linear layers, for types that cannot be told which to leave out.
        pooler: somebody may read what a module of that name makes. A bare encoder's is left out: mean pooling never
            reads it, so its adapters would travel without ever being trained.

    Raises:
        ModelError: an unknown key, or a value that peft refuses.
    """
    kind = config_class(table.type)
    names = _fields(kind)
    settings: dict[str, Any] = {}
    for key, value in table.chosen.items():
        theirs = their_name(key, names)
        if theirs is not None:
            settings[theirs] = value
    settings |= VARIANTS.get(table.type, {}) | SILENT.get(table.type, {})
    for key, value in table.params.items():
        _check_key(table, key, names)
        settings[key] = _checked(table, kind, key, value)
    if table.merged:
        _make_room(settings, table)
    if "target_modules" in names and "target_modules" not in settings and table.type not in OWN_TARGETS:
        settings["target_modules"] = LORA_DEFAULTS["target_modules"]
    if "exclude_modules" in names:
        left_out = _pattern(settings.get("exclude_modules"))
        if classifier:
            left_out.append(rf"(.*\.)?({'|'.join(map(re.escape, fresh))})(\..*)?")
        elif not pooler:
            left_out.append(r".*pooler.*")
        settings["exclude_modules"] = "|".join(left_out) or None
    elif settings.get("target_modules") == "all-linear" and linear:
        skipped = fresh if classifier else [name for name in linear if "pooler" in name and not pooler]
        settings["target_modules"] = [
            name for name in linear if not f"{name}.".startswith(tuple(f"{s}." for s in skipped))
        ]
    if classifier and "modules_to_save" not in names:
        raise ModelError(
            f'adapter.type = "{table.type}" trains nothing else, and the head of this classifier is to be trained',
            code="adapter.no-head",
            allowed="any type of peft that has modules_to_save",
            remedy="choose another adapter.type, or a model.task without a head",
        )
    if classifier:
        settings["task_type"] = peft.TaskType.SEQ_CLS
        settings["modules_to_save"] = list(dict.fromkeys([*(settings.get("modules_to_save") or ()), *fresh]))
    try:
        return kind(**settings)
    except (TypeError, ValueError) as error:
        raise ModelError(
            f'adapter.type = "{table.type}": peft refused its settings: {error}',
            code="adapter.refused",
            remedy="correct the [adapter] table",
        ) from error


def _make_room(settings: dict[str, Any], table: AdapterTable) -> None:
    """More components, and the same scaling: α/r, or α/√r."""
    rank, power = settings["r"], 0.5 if table.type == "rslora" else 1.0
    settings["r"] = rank + table.merged
    alpha = settings["lora_alpha"] * (settings["r"] / rank) ** power
    settings["lora_alpha"] = int(alpha) if float(alpha).is_integer() else alpha


def unused(table: AdapterTable) -> list[str]:
    """What the table sets and its type has not, in words; of a plug-in nothing is known."""
    if ".py:" in table.type or table.start is not None:
        return []
    if table.type in WITHOUT_PEFT:
        names: Sequence[str] = ()
    else:
        try:
            names = _fields(config_class(table.type))
        except ModelError:  # a type of somebody's own
            return []
    return [
        f"adapter.{key} = {value!r} is not used: {table.type} has no such setting"
        for key, value in table.chosen.items()
        if their_name(key, names) is None
    ]


def their_name(key: str, names: Sequence[str]) -> str | None:
    """What a type with fields of these names calls one of our settings; None where it has none.

    >>> their_name("alpha", ["r", "lora_alpha"]), their_name("dropout", ["r"]), their_name("rank", ["r"])
    ('lora_alpha', None, 'r')
    """
    ends = {"rank": ("r",), "alpha": ("alpha", "lora_alpha"), "dropout": ("dropout", "lora_dropout")}.get(key, (key,))
    found = [name for name in names if name in ends]
    if not found and key in ("alpha", "dropout"):  # psoft_alpha, hira_dropout
        other = ("rank_dropout", "module_dropout", "encoder_dropout", "regularization_alpha")
        found = [name for name in names if name.endswith(f"_{key}") and name not in other]
    return found[0] if found else None


def _fields(kind: Any) -> list[str]:
    return [field.name for field in dataclasses.fields(kind) if field.init]


def _check_key(table: AdapterTable, key: str, names: Sequence[str]) -> None:
    if key in names and key not in NOT_SETTINGS:
        return
    ours = {their_name(own, names): own for own in LORA_DEFAULTS}
    known = sorted({ours.get(name) or name for name in names} - NOT_SETTINGS)
    raise ModelError(
        f'unknown key adapter.{key} = {table.params[key]!r} of adapter.type = "{table.type}"',
        code="adapter.unknown-key",
        allowed=", ".join(["type", "start", *known]),
        remedy=closest(key, known) or f"remove adapter.{key}",
    )


def _checked(table: AdapterTable, kind: Any, key: str, value: Any) -> Any:
    """The value as the field's own type wants it: peft's data classes take anything and fail much later."""
    try:
        annotation = typing.get_type_hints(kind)[key]
        return pydantic.TypeAdapter(annotation, config={"arbitrary_types_allowed": True}).validate_python(value)
    except pydantic.ValidationError as error:
        wanted = "; or ".join(dict.fromkeys(str(detail["msg"]) for detail in error.errors()))
        raise ModelError(
            f"adapter.{key} = {value!r} is not allowed",
            code="adapter.wrong-value",
            allowed=wanted,
            remedy=f"correct adapter.{key}; peft's {kind.__name__} describes it",
        ) from None
    except (NameError, KeyError, TypeError, pydantic.errors.PydanticUserError):  # a type that only peft understands
        return value


def _pattern(excluded: Any) -> list[str]:
    """What peft takes as a list of names, or as one regular expression, as the latter."""
    if not excluded:
        return []
    if isinstance(excluded, str):
        return [f"({excluded})"]
    return [rf"(.*\.)?({'|'.join(map(re.escape, sorted(excluded)))})"]


def as_table(config: Any) -> Mapping[str, Any]:
    """The settings of a configuration object, by peft's names; sets as sorted lists."""
    return {
        name: sorted(value) if isinstance(value := getattr(config, name), set) else value
        for name in _fields(type(config))
        if name not in NOT_SETTINGS
    }
