"""What a task prepares is kept while θ stays, and made anew when it changes."""

import numpy as np
import torch

from fedpeft.evaluation import evaluate
from fedpeft.evaluation.prepared import PreparedOnce
from fedpeft.training import Outcomes


class Scale:
    """Stands for an adapter: a model that multiplies by its only parameter."""

    def __init__(self):
        self.model = torch.nn.Linear(1, 1, bias=False)
        self.set(np.ones(1, dtype=np.float32))

    def get(self):
        return self.model.weight.detach().numpy().ravel().copy()

    def set(self, theta):
        with torch.no_grad():
            self.model.weight.copy_(torch.from_numpy(theta).view(1, 1))


class Counting:
    """A task whose loss is what it prepared: the model's parameter."""

    def __init__(self):
        self.prepared = 0

    def prepare(self, model):
        self.prepared += 1
        return model.weight * 1  # a tensor that would carry a gradient

    def batch(self, data, indices):
        return len(indices)

    def outcomes(self, model, batch, prepared):
        assert not prepared.requires_grad
        return Outcomes(prepared.expand(batch, 1)[:, 0])


def test_prepared_once_for_each_theta():
    adapter, task = Scale(), Counting()
    prepared = PreparedOnce(adapter, task)

    def loss(theta: float) -> float:
        adapter.set(np.array([theta], dtype=np.float32))
        return evaluate(adapter, task, range(3), batch_size=2, prepared=prepared).loss

    assert [loss(2.0), loss(2.0), loss(3.0), loss(2.0)] == [2.0, 2.0, 3.0, 2.0]
    assert task.prepared == 3
    evaluate(adapter, task, range(3), batch_size=2)
    assert task.prepared == 4
