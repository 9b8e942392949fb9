"""`[run]`, `[round]`, `[local]`, `[codec]`, `[evaluation]`, `[limits]`: what happens in each round."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from fedpeft.config.table import Natural, Positive, Seed, Table


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
