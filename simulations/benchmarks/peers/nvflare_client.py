"""The client's half of nvflare_mlp.py: NVFlare copies this file to each client and runs it there."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import nvflare.client as flare
import torch


def main():
    """One step a task until the server stops."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--here", required=True)
    parser.add_argument("--times", type=Path, required=True)
    options = parser.parse_args()
    sys.path.insert(0, options.here)
    from mlp import RATE, Mlp, make_client

    torch.set_num_threads(1)
    model = Mlp()
    flare.init()
    name = flare.get_site_name()
    x, y = make_client(int(name.removeprefix("site-")) - 1)
    while flare.is_running():
        task = flare.receive()
        if task is None:
            break
        model.load_state_dict({key: torch.as_tensor(value) for key, value in task.params.items()})
        optimizer = torch.optim.SGD(model.parameters(), lr=RATE)
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(model(x), y).backward()
        optimizer.step()
        if name == "site-1":
            with options.times.open("a") as file:
                file.write(f"{time.perf_counter()}\n")
        flare.send(flare.FLModel(params=model.state_dict(), meta={"NUM_STEPS_CURRENT_ROUND": 1}))


if __name__ == "__main__":
    main()
