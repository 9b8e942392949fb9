"""`[aggregation]`: how LoRA factors of differing ranks become one."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, model_validator

from fedpeft.config.table import check_finite
from fedpeft.explain import Contradiction


class AggregationTable(BaseModel):
    """`[aggregation]`: a rule, and every further key is a parameter of that rule. Numbers must be finite."""

    model_config = ConfigDict(extra="allow", frozen=True, strict=True)

    rule: str | None = None  # fedit | hetlora | flexlora | lora-fair | fedex | flora | exact-mix, the default for ranks

    @model_validator(mode="after")
    def _sound(self) -> AggregationTable:
        if self.rule is None and self.params:
            key = next(iter(self.params))
            raise Contradiction(
                f"{key} = {self.params[key]!r} is a parameter of a rule, and aggregation.rule names none",
                allowed="parameters beside a rule",
                remedy=f"name the rule, or remove aggregation.{key}",
            )
        check_finite(self.params)
        return self

    @property
    def params(self) -> dict[str, Any]:
        """The rule's own parameters."""
        return dict(self.model_extra or {})
