"""`[engine]`: where clients live, and how they are trained there."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from pydantic import Field, model_validator

from fedpeft.config.devices import FaultTable
from fedpeft.config.table import Positive, Table
from fedpeft.explain import Contradiction


class EngineTable(Table):
    """`[engine]`: where clients live."""

    # local: on this machine, on a virtual clock; ray: the same, trained by actors on a Ray cluster; flower: Flower's
    # simulation runtime, a virtual SuperNode for each client, on Ray; superlink: a SuperLink and nodes with keys and
    # TLS, as deployed, started on this machine and ended with the run
    name: Literal["local", "ray", "flower", "superlink"] = "local"
    workers: Positive | Literal["auto"] = 1  # train at once, a process each; auto: one a core of this machine, less one
    # while the centralised comparison has a process of its own. 1 on the local engine: in this process
    # superlink, resident: `workers` agents stand for all nodes and keep the model loaded; stock: Flower's own
    # SuperNode, two processes for each client and a new one for each message
    nodes: Literal["resident", "stock"] = "resident"
    address: str = ""  # ray, flower: of a running cluster, e.g. "auto" or "ray://host:10001"; "" starts one here
    gpus_per_worker: float = Field(0.0, ge=0)  # ray, flower: a share of a GPU is a fraction
    threads: Positive = 1  # of torch; one keeps runs equal bit by bit
    wire: bool = True  # pass each message through Flower's wire format, to count its bytes
    lookahead: Positive = 64  # clients handed to the trainer at once
    trainer: Literal["batched", "sequential"] = "batched"  # many clients in one pass, or one after the other
    kernel: str = "auto"  # of the frozen base's products: auto (measured) | torch | onednn
    rows: Positive = 4096  # of one pass, e.g. tokens over all its clients; more is slower where caches are small
    memory_mb: Positive = 300  # for the clients of a pass, beside the base

    @model_validator(mode="after")
    def _of_its_engine(self) -> EngineTable:
        for key, value, default, engines in (
            ("address", self.address, "", ("ray", "flower")),
            ("gpus_per_worker", self.gpus_per_worker, 0.0, ("ray", "flower")),
            ("nodes", self.nodes, "resident", ("superlink",)),
        ):
            if self.name not in engines and value != default:
                theirs = " or ".join(f'"{engine}"' for engine in engines)
                lacking = "no nodes of their own" if key == "nodes" else "no cluster"
                raise Contradiction(
                    f'{key} = {value!r} contradicts engine.name = "{self.name}", which has {lacking}',
                    allowed=f"it is a key of engine.name = {theirs}",
                    remedy=f'remove engine.{key}, or set engine.name = "{engines[0]}"',
                )
        if self.threads > 1 and (self.name != "local" or self.workers != 1):
            raise Contradiction(
                f"threads = {self.threads} contradicts workers = {self.workers!r}: a worker computes with one thread",
                allowed="more threads, or more workers",
                remedy="set engine.threads = 1",
            )
        return self


def check_faults(engine: EngineTable, faults: Sequence[FaultTable]) -> None:
    """Refuse rehearsed faults where nothing rehearses them.

    Raises:
        Contradiction: the engine has real nodes, on the machine's own clock.
    """
    if faults and engine.name in ("flower", "superlink"):
        raise Contradiction(
            f'[[faults]] contradicts engine.name = "{engine.name}", whose nodes are real and on no virtual clock',
            allowed='they are rehearsed by engine.name = "local" and "ray"',
            remedy='remove [[faults]], or set engine.name = "local"',
        )
