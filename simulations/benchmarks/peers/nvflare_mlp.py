"""The tiny job of mlp.py in NVFlare's simulator: a thread for each client, whose half is nvflare_client.py.

    python nvflare_mlp.py --clients 2 --rounds 10

Prints the wall seconds from one task to the next on the first client, without the first two.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
import tempfile
from itertools import pairwise
from pathlib import Path

from mlp import Mlp
from nvflare.app_opt.pt.recipes.fedavg import FedAvgRecipe
from nvflare.recipe import SimEnv

HERE = Path(__file__).resolve().parent


def main():
    """Runs it."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--clients", type=int, required=True)
    parser.add_argument("--rounds", type=int, required=True)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch, contextlib.redirect_stdout(sys.stderr):
        times = Path(scratch) / "times.txt"
        recipe = FedAvgRecipe(
            name="mlp",
            min_clients=options.clients,
            num_rounds=options.rounds + 2,
            model=Mlp(),
            train_script=str(HERE / "nvflare_client.py"),
            train_args=f"--here {HERE} --times {times}",
        )
        recipe.execute(SimEnv(num_clients=options.clients, workspace_root=scratch))
        ends = [float(line) for line in times.read_text().splitlines()]
    if len(ends) != options.rounds + 2:
        raise SystemExit(f"{len(ends)} of {options.rounds + 2} rounds were done")
    print(json.dumps({"seconds": [b - a for a, b in pairwise(ends[1:])]}))


if __name__ == "__main__":
    main()
