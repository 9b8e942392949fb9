"""What every table of a run file is made of: strict, frozen, and errors that name key, value and remedy."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, model_validator

from fedpeft.explain import Contradiction

Positive = Annotated[int, Field(gt=0, lt=2**31)]
Natural = Annotated[int, Field(ge=0, lt=2**31)]
Seed = Annotated[int, Field(ge=0, lt=2**64)]


class Table(BaseModel):
    """A table of the run file: unknown keys are errors, values are frozen."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


def check_finite(params: Mapping[str, Any]) -> None:
    """Raise `Contradiction` at a parameter that is infinite or no number."""
    for key, value in params.items():
        if isinstance(value, float) and not math.isfinite(value):
            raise Contradiction(
                f"{key} = {value} is not a finite number", allowed="a finite number", remedy=f"correct {key}"
            )


class PluginTable(BaseModel):
    """A table that names a plug-in; every further key is a parameter of that plug-in. Numbers must be finite."""

    model_config = ConfigDict(extra="allow", frozen=True, strict=True)

    name: str

    @model_validator(mode="after")
    def _finite(self) -> PluginTable:
        check_finite(self.params)
        return self

    @property
    def params(self) -> dict[str, Any]:
        """The plug-in's own parameters."""
        return dict(self.model_extra or {})
