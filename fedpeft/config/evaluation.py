"""`[evaluation]`: where and how often an adapter is judged, which one is kept, and when a run ends early."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from fedpeft.config.table import Natural, Positive, Table
from fedpeft.explain import Contradiction


class EvaluationTable(Table):
    """`[evaluation]`: on the coordinator's test set, on the clients' own held-out examples, and beside a twin."""

    every: Positive = 1  # rounds between evaluations on the coordinator's test set; the first and the last always are
    test_examples: Natural = 0  # of the test set used at all, a fixed sample; 0 = all
    examples: Natural = 0  # of the test set in the rounds between first and last, a fixed sample; 0 = all
    batch_size: Positive = 64  # examples of one forward pass

    clients: bool = True  # clients evaluate the first and the last adapter on their own held-out examples
    clients_every: Natural = 0  # rounds between further evaluations on the clients; 0 = none but first and last
    clients_fraction: Annotated[float, Field(gt=0, le=1)] = 1.0  # of the clients: a panel, the same in every evaluation
    personalised_steps: Natural = 0  # local steps from the last adapter before a client evaluates once more; 0 = none
    personalised_learning_rate: Annotated[float, Field(gt=0)] | None = None  # default: local.learning_rate

    keep: Literal["last", "best"] = "last"  # which adapter is exported as adapter/; the other one lies beside it
    patience: Natural = 0  # evaluations in a row without an improvement that end the run; 0 = all rounds are run
    target: float | None = None  # the run ends with the first round whose headline metric is as good; None = never
    min_delta: float = Field(0.0, ge=0)  # an improvement is more than this, in the unit of the watched metric

    centralised: bool = True  # also train one adapter on the pooled data with the same number of example passes
    centralised_learning_rate: Annotated[float, Field(gt=0)] | None = None  # default: local.learning_rate

    @property
    def watched(self) -> bool:
        """Whether the best round is looked for."""
        return self.keep == "best" or self.patience > 0

    @property
    def early(self) -> bool:
        """Whether a run may end before its last round."""
        return self.patience > 0 or self.target is not None

    @property
    def judging(self) -> str:
        """The key that wants something to judge rounds by; empty: none does."""
        if self.patience:
            return "patience"
        return "target" if self.target is not None else "keep" if self.keep == "best" else ""

    @model_validator(mode="after")
    def _of_clients(self) -> EvaluationTable:
        for key, value, default in (
            ("clients_every", self.clients_every, 0),
            ("clients_fraction", self.clients_fraction, 1.0),
            ("personalised_steps", self.personalised_steps, 0),
        ):
            if not self.clients and value != default:
                raise Contradiction(
                    f"{key} = {value} contradicts evaluation.clients = false",
                    allowed=f"{key} where the clients evaluate at all",
                    remedy=f"remove evaluation.{key}, or set evaluation.clients = true",
                )
        if self.personalised_learning_rate is not None and not self.personalised_steps:
            raise Contradiction(
                f"personalised_learning_rate = {self.personalised_learning_rate} has nothing to train",
                allowed="it beside evaluation.personalised_steps of 1 or more",
                remedy="set evaluation.personalised_steps, or remove it",
            )
        if self.min_delta and not self.patience:
            raise Contradiction(
                f"min_delta = {self.min_delta} has no meaning without evaluation.patience",
                allowed="it beside evaluation.patience of 1 or more",
                remedy="set evaluation.patience, or remove it",
            )
        return self
