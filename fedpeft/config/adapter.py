"""`[adapter]`: what of the frozen base is trained."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated, Any

from pydantic import ConfigDict, Field, model_validator

from fedpeft.config.devices import DeviceTable
from fedpeft.config.table import Positive, Table
from fedpeft.explain import Contradiction

LORA_DEFAULTS: dict[str, Any] = {"rank": 8, "alpha": 16.0, "target_modules": "all-linear", "dropout": 0.0}
"""Of LoRA and its variants; other kinds keep peft's own."""

LORA_VARIANTS = ("lora", "dora", "rslora", "pissa")

WITHOUT_PEFT = ("bitfit", "ssf", "full")
"""Types that are fedpeft's own; they have no settings."""

_THEIRS = {"r": "rank", "lora_alpha": "alpha", "lora_dropout": "dropout"}
"""What peft calls these keys: understood here too, so that settings can be copied."""

NOT_FEDERATED = {
    "adalora": "it moves rank between layers on a schedule of optimizer steps, which each client would take alone",
    "osf": "it trains the singular vectors of each matrix, and the mean of two bases is no basis",
    "poly": "it picks its adapters by a task id with every example",
    "multitask_prompt_tuning": "it picks its prompts by a task id with every example",
    "xlora": "it mixes adapters that were trained before; it trains none of its own",
    "adaption_prompt": "it rewrites the attention of one version of Llama, and has no place in the layers of others",
    "cpt": "its loss weighs the tokens of one fixed context, which every client would have to share",
    "cartridge": "it starts from the keys and values of one long text, which every client would have to share",
    "shadow": "it trains a second model beside the base, with a loss of its own",
}
"""Types of peft that are refused, and why."""


class AdapterTable(Table):
    """`[adapter]`: what is trained. Every further key is one of peft's own for the type, e.g. `rank_pattern`."""

    model_config = ConfigDict(extra="allow")

    type: str = "lora"  # lora | dora | ia3 | bitfit | ...: simulations/ADAPTERS.md has all
    rank: Positive | None = None  # lora: 8; checked against the model's layers when the model is known
    alpha: float | None = Field(None, gt=0)  # lora: 16; its scaling is alpha / rank
    target_modules: str | list[str] | None = None  # names as peft takes them, or "all-linear"; lora: "all-linear"
    dropout: float | None = Field(None, ge=0, lt=1)  # lora: 0
    private: list[str] = Field(default_factory=list)  # parts of tensors' names, e.g. "lora_B": stay on each client
    frozen: list[str] = Field(default_factory=list)  # likewise, e.g. "lora_A": keep their seeded initial value
    # beside `rank`: components of each LoRA layer that clients use and nobody trains, for what a rule merges
    merged: Annotated[int, Field(ge=0)] = 0
    start: str | None = None  # a peft adapter's folder, relative to the run file: type, settings, values from there

    @model_validator(mode="before")
    @classmethod
    def _defaults(cls, table: Any) -> Any:
        if not isinstance(table, dict):
            return table
        for theirs, ours in _THEIRS.items():
            if theirs in table:
                if ours in table:
                    raise Contradiction(
                        f"{theirs} = {table[theirs]!r} contradicts adapter.{ours} = {table[ours]!r}",
                        allowed="one of them: they are two names of one setting",
                        remedy=f"remove adapter.{theirs}",
                    )
                table = {**{key: value for key, value in table.items() if key != theirs}, ours: table[theirs]}
        if table.get("start") is not None:
            return {"type": "saved", **table}
        return {**LORA_DEFAULTS, **table} if table.get("type", "lora") in LORA_VARIANTS else table

    @model_validator(mode="after")
    def _sound(self) -> AdapterTable:
        if self.type in NOT_FEDERATED:
            raise Contradiction(
                f'type = "{self.type}" cannot be trained by a federation: {NOT_FEDERATED[self.type]}',
                allowed="the types that simulations/ADAPTERS.md lists",
                remedy='set adapter.type = "lora", or another one',
            )
        if self.type == "saved" and self.start is None:
            raise Contradiction(
                'type = "saved" needs a folder to start from',
                allowed="adapter.start, a peft adapter's folder",
                remedy="add adapter.start",
            )
        if self.type in WITHOUT_PEFT and (self.start is not None or self.params):
            key = "start" if self.start is not None else next(iter(self.params))
            raise Contradiction(
                f'{key} = {getattr(self, key)!r} contradicts adapter.type = "{self.type}", which is none of peft\'s',
                allowed="the key is for types of peft, e.g. lora",
                remedy=f"remove adapter.{key}, or choose another type",
            )
        self._check_merged()
        for key, value in self.params.items():
            if isinstance(value, float) and not math.isfinite(value):
                raise Contradiction(
                    f"{key} = {value} is not a finite number",
                    allowed="a finite number",
                    remedy=f"correct adapter.{key}",
                )
        return self

    def _check_merged(self) -> None:
        """Components that nobody trains need layers of one rank, whose B begins at 0."""
        against = [key for key in ("rank_pattern", "alpha_pattern", "init_lora_weights") if key in self.params]
        if self.merged and (against or self.type not in ("lora", "rslora")):
            what = f"adapter.{against[0]}" if against else f'adapter.type = "{self.type}"'
            raise Contradiction(
                f"merged = {self.merged} contradicts {what}: it needs layers of one rank that begin at 0",
                allowed='adapter.type = "lora" or "rslora", as they are',
                remedy=f"remove adapter.merged, or {what.split(' = ')[0]}",
            )

    @property
    def params(self) -> dict[str, Any]:
        """The keys that are peft's own."""
        return dict(self.model_extra or {})

    @property
    def chosen(self) -> dict[str, Any]:
        """The keys that all types share, as far as they are set: rank, alpha, target_modules, dropout."""
        return {key: value for key in LORA_DEFAULTS if (value := getattr(self, key)) is not None}


def check_ranks(adapter: AdapterTable, devices: Sequence[DeviceTable]) -> None:
    """Raise `Contradiction` where a device class has a rank that the adapter cannot be cut to."""
    for device in devices:
        if device.rank is None:
            continue
        if adapter.type not in (*LORA_VARIANTS, "saved") and ".py:" not in adapter.type:
            raise Contradiction(
                f'devices.rank = {device.rank} of class "{device.name}" contradicts adapter.type = "{adapter.type}", '
                "which has no components to leave out",
                allowed=f"adapter.type = {', '.join(LORA_VARIANTS)}",
                remedy="remove devices.rank, or choose one of these types",
            )
        if adapter.rank is not None and device.rank > adapter.rank:
            raise Contradiction(
                f'devices.rank = {device.rank} of class "{device.name}" is more than adapter.rank',
                allowed=f"1 to {adapter.rank}",
                remedy="lower it, or raise adapter.rank",
            )
