"""The tiny job on which frameworks are compared: in plain torch, by our trainers, and by a whole federation of ours.

A network of 32 inputs, 64 hidden units and 10 classes, 2,762 parameters and all of them trained; 64 clients with 20
examples each, one step of SGD, the mean. The peers do the same (`peers/mlp.py` holds their network and data, equal to
these). Each contender takes a number of rounds and returns the seconds of each, and the L2 norm of the last model.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import Any

CLIENTS, EXAMPLES, FEATURES, HIDDEN, CLASSES, RATE = 64, 20, 32, 64, 10, 0.1


def network() -> Any:
    """Two layers, with the same values everywhere."""
    import torch

    torch.manual_seed(0)
    return torch.nn.Sequential(
        torch.nn.Linear(FEATURES, HIDDEN), torch.nn.ReLU(), torch.nn.Linear(HIDDEN, CLASSES)
    ).eval()


class Rows:
    """One client's examples: x of shape (n, 32), y of shape (n,)."""

    def __init__(self, x: Any, y: Any) -> None:
        self.x, self.y = x, y

    @classmethod
    def of_client(cls, number: int) -> Rows:
        """20 random examples, the same ones whenever they are asked for."""
        import numpy as np
        import torch

        rng = np.random.default_rng(number)
        x = torch.from_numpy(rng.standard_normal((EXAMPLES, FEATURES), dtype=np.float32))
        return cls(x, torch.from_numpy(rng.integers(0, CLASSES, EXAMPLES)))

    def __len__(self) -> int:
        return len(self.x)


class Classify:
    """The task (`fedpeft.training.Task`) of the tiny network: cross-entropy on rows of tensors."""

    def encode(self, examples: Any) -> Any:
        """As they are."""
        return examples

    def select(self, data: Any, indices: Sequence[int]) -> Any:
        """A part of the rows."""
        return Rows(data.x[list(indices)], data.y[list(indices)])

    def pool(self, data: Sequence[Any]) -> Any:
        """All clients' rows."""
        import torch

        return Rows(torch.cat([part.x for part in data]), torch.cat([part.y for part in data]))

    def batch(self, data: Rows, indices: Any) -> Any:
        """Rows at `indices`."""
        import torch

        picked = torch.from_numpy(indices)
        return data.x[picked], data.y[picked]

    def prepare(self, model: Any) -> None:
        """Nothing stays fixed."""

    def outcomes(self, model: Any, batch: Any, prepared: None) -> Any:
        """Losses of shape (n,)."""
        import torch

        from fedpeft.training.task import Outcomes

        x, y = batch
        return Outcomes(torch.nn.functional.cross_entropy(model(x), y, reduction="none"))


# The contenders: so many rounds -> seconds of each round, and the norm of the last model


def plain(rounds: int) -> tuple[list[float], float]:
    """What anybody would write: one model, one optimizer, a loop."""
    import torch

    model, clients = network(), [Rows.of_client(number) for number in range(CLIENTS)]
    parameters = list(model.parameters())
    optimizer = torch.optim.SGD(parameters, lr=RATE)
    theta = [parameter.detach().clone() for parameter in parameters]
    stamps = [time.process_time()]
    for _ in range(rounds):
        sums = [torch.zeros_like(parameter) for parameter in parameters]
        for client in clients:
            with torch.no_grad():
                for parameter, value in zip(parameters, theta, strict=True):
                    parameter.copy_(value)
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(model(client.x), client.y).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            with torch.no_grad():
                for total, parameter in zip(sums, parameters, strict=True):
                    total.add_(parameter)
        theta = [total / CLIENTS for total in sums]
        stamps.append(time.process_time())
    return _gaps(stamps), float(torch.cat([value.reshape(-1) for value in theta]).norm())


def trainer(rounds: int) -> tuple[list[float], float]:
    """`SequentialTrainer`, and the mean of its deltas."""
    from fedpeft.training import SequentialTrainer

    return _train(rounds, SequentialTrainer)


def together(rounds: int) -> tuple[list[float], float]:
    """`BatchedTrainer`, and the mean of its deltas.

    Raises:
        NotImplementedError: it cannot train this model.
    """
    from fedpeft.training.batched import BatchedTrainer

    return _train(rounds, BatchedTrainer)


def _train(rounds: int, make: Callable[[Any, Any], Any]) -> tuple[list[float], float]:
    import numpy as np

    from fedpeft.adapters import FlatAdapter
    from fedpeft.aggregation import WeightedMean
    from fedpeft.training import TrainingJob
    from fedpeft.types import ClientId, Plan

    adapter = FlatAdapter(network())
    own, theta = make(adapter, Classify()), adapter.get()
    clients = {ClientId(f"c{number:02d}"): Rows.of_client(number) for number in range(CLIENTS)}
    stamps = [time.process_time()]
    for number in range(rounds):
        jobs = [
            TrainingJob(
                Plan(
                    "bench", number, 1, client, seed=number, steps=1, batch_size=EXAMPLES, learning_rate=RATE,
                    max_grad_norm=0.0, optimizer="sgd",
                ),
                theta,
                rows,
            )
            for client, rows in clients.items()
        ]  # fmt: skip
        mean = WeightedMean(theta.size)
        for result in own.run(jobs):
            if result.delta is None:
                raise NotImplementedError(str(result.fault))
            mean.add(result.delta, EXAMPLES)
        theta = theta + mean.mean()
        stamps.append(time.process_time())
    return _gaps(stamps), float(np.linalg.norm(theta))


def messages(
    rounds: int,
    *,
    wire: bool = False,
    trainer: str = "batched",
    idle: bool = False,
    clock: Callable[[], float] = time.process_time,
) -> tuple[list[float], float]:
    """A whole federation in this process, its journal on disk.

    Args:
        rounds: to commit.
        wire: pass each message through Flower's wire format and count its bytes.
        trainer: `engine.trainer`.
        idle: train nothing; every delta is the same vector.
        clock: seconds.
    """
    from unittest.mock import patch

    import numpy as np

    from fedpeft.journal import EventKind, Journal
    from fedpeft.simulation.local import run_local
    from fedpeft.simulation.wiring import make_agent

    stamps: list[float] = []

    def stamp(event: Any) -> None:
        if event.kind is EventKind.COMMITTED:
            stamps.append(clock())

    with tempfile.TemporaryDirectory() as folder:
        federation = _federation(rounds, folder, {"wire": wire, "trainer": trainer})
        with Journal.create(federation.config.folder, run="bench", config_toml="") as journal:
            journal.subscribe(stamp)
            with patch("fedpeft.simulation.local.make_agent", _idle_agent if idle else make_agent):
                theta, _ = run_local(federation, journal, lambda examples: None)
    return _gaps(stamps), float(np.linalg.norm(theta))


def _idle_agent(*arguments: Any, **more: Any) -> Any:
    from fedpeft.simulation.wiring import make_agent

    agent = make_agent(*arguments, **more)
    agent.trainer = Idle(agent.layout.size)
    return agent


class Idle:
    """A trainer that trains nothing: every delta is the same vector, shape (size,)."""

    def __init__(self, size: int) -> None:
        import numpy as np

        self.delta = np.full(size, 1e-3, dtype=np.float32)

    def run(self, jobs: Sequence[Any]) -> Iterator[Any]:
        """The same result for every job."""
        from fedpeft.training import TrainingResult

        for job in jobs:
            yield TrainingResult(job.plan, self.delta, {"loss_first": 1.0, "loss_last": 1.0, "seconds": 0.0})


def _federation(rounds: int, folder: str, engine: dict[str, Any]) -> Any:
    from fedpeft.adapters import FlatAdapter
    from fedpeft.config import parse_config
    from fedpeft.simulation.federation import Federation
    from fedpeft.strategies import FedAvg
    from fedpeft.types import ClientId

    table = {
        "run": {"name": "bench", "rounds": rounds, "folder": folder},
        "model": {"source": "python-objects", "name": "mlp"},
        "devices": [{"name": "default", "clients": CLIENTS}],
        "round": {"ask": CLIENTS},
        "local": {
            "steps": 1,
            "batch_size": EXAMPLES,
            "learning_rate": RATE,
            "max_grad_norm": 0.0,
            "optimizer": "sgd",
        },
        "codec": {"up": "fp32", "down": "fp32"},
        "evaluation": {"clients": False, "centralised": False},
        "engine": engine,
    }
    adapter = FlatAdapter(network())
    clients = {ClientId(f"c{number:02d}"): Rows.of_client(number) for number in range(CLIENTS)}
    return Federation(
        config=parse_config(table, origin="tiny_task.py"),
        adapter=adapter,
        initial=adapter.get(),
        task=Classify(),
        strategy=FedAvg(),
        train=clients,
        held_out=dict.fromkeys(clients, ()),
        test=(),
        description="",
        labels=0,
        base_name="mlp",
        base_parameters=0,
    )


def _gaps(stamps: Sequence[float]) -> list[float]:
    return [later - earlier for earlier, later in pairwise(stamps)]
