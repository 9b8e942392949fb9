"""`[run]`, `[round]`, `[local]`, `[codec]`, `[limits]`: what happens in each round."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from fedpeft.config.table import Natural, PluginTable, Positive, Seed, Table


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

    mode: Literal["sync", "async"] = "sync"  # wait for a cohort, or commit every so many updates as they come (FedBuff)
    ask: Positive  # sync: clients whose updates make a round; async: clients that are training at any time
    buffer: Positive | None = None  # async: updates that make a round, of whichever version; default: ask
    staleness: Literal["polynomial", "constant"] = "polynomial"  # async: weight factor of an update τ commits old
    staleness_exponent: Annotated[float, Field(ge=0)] = 0.5  # a in (1 + τ)^-a, for staleness = "polynomial"
    max_staleness: Natural | None = None  # async: an update more commits old than this is dropped; default: none is
    over_select: Natural = 0  # sync: asked beyond that; the round closes when `ask` have answered
    min_replies: Positive = 1  # fewer than this and the round is attempted again
    attempts: Positive = 3  # before the run stops with an error
    deadline_s: float = Field(3600.0, gt=0)  # on the coordinator's monotonic clock
    gather_s: float = Field(60.0, ge=0)  # before the first round, so long for all clients; then until `ask` are there
    late: Literal["drop", "fold"] = "drop"  # sync: a reply after its round closed: forget it, or fold it discounted
    late_discount: Annotated[float, Field(gt=0, le=1)] = 0.5  # weight factor per round of lateness, for late = "fold"

    @property
    def updates(self) -> int:
        """Updates that make a round."""
        return self.buffer or self.ask if self.mode == "async" else self.ask


class LocalTable(Table):
    """`[local]`: what each client does in a round."""

    steps: Positive = 8
    batch_size: Positive = 16
    learning_rate: float = Field(1e-3, gt=0)  # of the rounds that the schedule leaves at full rate
    schedule: PluginTable = PluginTable(
        name="constant"
    )  # of the rate over the rounds, e.g. { name = "cosine", final = 0.1 }
    weight_decay: float = Field(0.0, ge=0)
    max_grad_norm: float = Field(1.0, ge=0)  # 0 = no clipping
    optimizer: str = "adamw"
    accumulate: Positive = 1  # micro-batches that a batch is passed in, one after the other; their gradients add up
    checkpointing: bool = False  # keep a block's input only and compute the block again when its gradient is due
    autocast: Literal["off", "bf16"] = "off"  # products of an fp32 base in bf16 while it trains; weights stay fp32


class CodecTable(Table):
    """`[codec]`: how deltas become bytes."""

    up: str = "int8"  # any codec; a device class may have its own
    auxiliary: str = "int8"  # any codec, for the vectors that a strategy sends beside θ and gets beside the delta
    down: str = "int8"  # versioned codes; "fp32": the plain vector; any other codec: what clients lack, in few bits
    validation: float = Field(0.0, ge=0, le=0.5)  # share of a client's training examples that a codec is searched on


class LimitsTable(Table):
    """`[limits]`: what the guards refuse."""

    max_update_norm: float = Field(100.0, gt=0)  # L2 norm of a decoded delta
    max_auxiliary_norm: float = Field(1000.0, gt=0)  # L2 norm of a further vector of an update, e.g. of gradients
    max_examples: Positive = 1_000_000  # that one client may claim
    max_frame_mb: float = Field(256.0, gt=0)
