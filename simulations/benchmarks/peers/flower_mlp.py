"""The tiny job of mlp.py in Flower's Ray simulation, two actors with one core each.

    python flower_mlp.py --clients 64 --rounds 20

Prints the wall seconds of each round but the first, in which Ray starts its actors, and the norm of the last model.
"""

from __future__ import annotations

import argparse
import json
import time
from functools import cache
from itertools import pairwise
from typing import ClassVar

import torch
from flwr.app import ArrayRecord, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import ServerApp
from flwr.serverapp.strategy import FedAvg
from flwr.simulation import run_simulation
from mlp import EXAMPLES, RATE, Mlp, make_client, norm

client_app = ClientApp()
server_app = ServerApp()
options = argparse.Namespace()
make_client = cache(make_client)


@cache
def model():
    """One in each process."""
    torch.set_num_threads(1)
    return Mlp()


@client_app.train()
def train(message, context):
    """One step on all of this client's examples."""
    own = model()
    own.load_state_dict(message.content["arrays"].to_torch_state_dict())
    x, y = make_client(int(context.node_config["partition-id"]))
    optimizer = torch.optim.SGD(own.parameters(), lr=RATE)
    optimizer.zero_grad()
    torch.nn.functional.cross_entropy(own(x), y).backward()
    optimizer.step()
    content = {"arrays": ArrayRecord(own.state_dict()), "metrics": MetricRecord({"num-examples": EXAMPLES})}
    return Message(RecordDict(content), reply_to=message)


class Timed(FedAvg):
    """FedAvg that notes when each round's mean is done."""

    ends: ClassVar[list[float]] = []

    def aggregate_train(self, server_round, replies):
        """Flower's own."""
        found = super().aggregate_train(server_round, replies)
        self.ends.append(time.perf_counter())
        return found


@server_app.main()
def serve(grid, context):
    """All rounds."""
    strategy = Timed(fraction_train=1.0, fraction_evaluate=0.0, min_available_nodes=options.clients)
    result = strategy.start(grid, ArrayRecord(Mlp().state_dict()), num_rounds=options.rounds + 1)
    model().load_state_dict(result.arrays.to_torch_state_dict())


def main():
    """Runs it."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--clients", type=int, required=True)
    parser.add_argument("--rounds", type=int, required=True)
    parser.parse_args(namespace=options)
    run_simulation(
        server_app,
        client_app,
        num_supernodes=options.clients,
        backend_config={"init_args": {"num_cpus": 2}, "client_resources": {"num_cpus": 1, "num_gpus": 0}},
    )
    ends = Timed.ends
    if len(ends) != options.rounds + 1:
        raise SystemExit(f"{len(ends)} of {options.rounds + 1} rounds were done")
    seconds = [b - a for a, b in pairwise(ends)]
    print(json.dumps({"seconds": seconds, "norm": norm(model())}))


if __name__ == "__main__":
    import flower_mlp  # the actors import it by this name, and so find the model that they hold

    flower_mlp.main()
