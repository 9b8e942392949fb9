"""`[engine]`: where clients live, and how they are trained there."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from fedpeft.config.table import Positive, Table
from fedpeft.explain import Contradiction


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
