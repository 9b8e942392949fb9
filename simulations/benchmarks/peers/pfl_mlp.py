"""The tiny job of mlp.py in Apple's pfl, one process.

    python pfl_mlp.py --clients 64 --rounds 40

Prints the CPU seconds of each round but the first, and the norm of the last model.
"""

from __future__ import annotations

import argparse
import json
import time
from itertools import pairwise

import torch
from mlp import RATE, Mlp, make_client, norm
from pfl.aggregate.simulate import SimulatedBackend
from pfl.algorithm.base import NNAlgorithmParams
from pfl.algorithm.federated_averaging import FederatedAveraging
from pfl.callback.base import TrainingProcessCallback
from pfl.data.dataset import Dataset
from pfl.data.federated_dataset import FederatedDataset
from pfl.hyperparam import NNTrainHyperParams
from pfl.metrics import Metrics
from pfl.model.pytorch import PyTorchModel


class Net(torch.nn.Module):
    """What pfl asks of a model."""

    def __init__(self):
        super().__init__()
        self.layers = Mlp()

    def loss(self, x, y):
        """Mean cross-entropy."""
        return torch.nn.functional.cross_entropy(self.layers(x), y)

    def metrics(self, x, y):
        """None: only training is timed."""
        return {}


class Clock(TrainingProcessCallback):
    """Notes when each round is done."""

    def __init__(self):
        self.ends = []

    def after_central_iteration(self, aggregate_metrics, model, *, central_iteration):
        """Goes on."""
        self.ends.append(time.process_time())
        return False, Metrics()


def main():
    """Runs it."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--clients", type=int, required=True)
    parser.add_argument("--rounds", type=int, required=True)
    options = parser.parse_args()
    torch.set_num_threads(1)
    users = [Dataset(make_client(number), user_id=str(number)) for number in range(options.clients)]
    turn = iter(range(10**9))
    data = FederatedDataset(lambda user: users[user], lambda: next(turn) % options.clients)
    net, clock = Net(), Clock()
    # The server's step of 1 on the averaged difference: FedAvg.
    model = PyTorchModel(net, torch.optim.SGD, torch.optim.SGD(net.parameters(), lr=1.0))
    FederatedAveraging().run(
        algorithm_params=NNAlgorithmParams(
            central_num_iterations=options.rounds + 1,
            evaluation_frequency=10**9,
            train_cohort_size=options.clients,
            val_cohort_size=0,
        ),
        backend=SimulatedBackend(data, data),
        model=model,
        model_train_params=NNTrainHyperParams(
            local_num_epochs=1, local_learning_rate=RATE, local_batch_size=None, local_max_grad_norm=None
        ),
        callbacks=[clock],
    )
    seconds = [b - a for a, b in pairwise(clock.ends)]
    print(json.dumps({"seconds": seconds, "norm": norm(net)}))


if __name__ == "__main__":
    main()
