"""Zeroth-order jobs of a two-layer network with LoRA, in milliseconds: shared by the tests of both trainers."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
import peft
import torch

from fedpeft.adapters import FlatAdapter, build_adapter
from fedpeft.registry import build
from fedpeft.training import TrainingJob
from fedpeft.training.tasks.custom import CustomTask
from fedpeft.training.zeroth.estimators.two_point import TwoPoint
from fedpeft.training.zeroth.record import ZerothSettings
from fedpeft.training.zeroth.trainer import ZerothTrainer
from fedpeft.types import ClientId, FloatArray, Plan
from fedpeft.zeroth.coordinates import Coordinates
from fedpeft.zeroth.optimizers import CoefficientOptimizer
from fedpeft.zeroth.optimizers.sgd import Sgd
from fedpeft.zeroth.replica import Replica

K = 64


def cross_entropy(model: Any, batch: Any) -> torch.Tensor:
    return torch.nn.functional.cross_entropy(model(batch[0]), batch[1], reduction="none")


def data(seed: int, count: int = 20) -> list[Any]:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(count, 6, generator=generator)
    return [(x[i], (x[i, 0] > 0).long()) for i in range(count)]


def adapter(dropout: float = 0.0) -> FlatAdapter:
    torch.manual_seed(1)
    model = torch.nn.Sequential(torch.nn.Linear(6, 8), torch.nn.Tanh(), torch.nn.Linear(8, 2))
    found = build_adapter(model, peft.LoraConfig(r=2, target_modules=["0", "2"], lora_dropout=dropout), seed=3)
    found.forget_gradient()
    return found


def trainer(
    kind: Any = ZerothTrainer,
    *,
    estimator: Any = None,
    loss: Any = cross_entropy,
    clip: float = 1000.0,
    epsilon: float = 1e-3,
    dropout: float = 0.0,
    optimizer: CoefficientOptimizer | None = None,
    pool: str = "hadamard",
    settings: Mapping[str, Any] = MappingProxyType({}),
    **more: Any,
) -> Any:
    estimator, own = estimator or TwoPoint(), adapter(dropout)
    coordinates = Coordinates(K, 2, 3, 0.05 * 2.0**-12, estimator.directions, 5, optimizer=optimizer or Sgd())
    replica = Replica(own.get(), build("pool", pool, {"size": K, "seed": 5}), coordinates, pool)
    return kind(own, CustomTask(loss), replica, ZerothSettings(estimator, epsilon, clip, **settings), **more)


def job(client: str = "a", start: FloatArray | None = None, **more: Any) -> TrainingJob:
    fields = {"seed": 11, "steps": 6, "batch_size": 5, "learning_rate": 0.05, **more}
    plan = Plan(run="r", round=2, attempt=1, client=ClientId(client), **fields)
    return TrainingJob(plan, np.zeros(2 * K, dtype=np.float32) if start is None else start, data(ord(client[0])))


def some_start() -> FloatArray:
    return np.random.default_rng(1).integers(-60, 60, 2 * K).astype(np.float32)
