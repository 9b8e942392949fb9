"""Where a run computes: the CPU, or one accelerator that holds base, adapter and batches."""

from __future__ import annotations

import torch

from fedpeft.errors import ConfigError


def choose_device(wanted: str) -> torch.device:
    """The device that `model.device` names.

    Args:
        wanted: "cpu", "cuda", "cuda:N", "mps"; or "auto": the first CUDA device if there is one, else the CPU. Apple's
            GPU is used only when it is asked for: it has no fp64, and its sums depend on the number of rows.

    Raises:
        ConfigError: there is no such device here.
    """
    if wanted == "auto":
        return torch.device("cuda", 0) if torch.cuda.is_available() else torch.device("cpu")
    device = torch.device(wanted)
    if device.type == "cuda":
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if (device.index or 0) >= count:
            raise _no_device(wanted, f"torch {torch.__version__} sees {count} CUDA devices")
        return torch.device("cuda", device.index or 0)
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise _no_device(wanted, f"torch {torch.__version__} sees no Apple GPU")
    return device


def _no_device(wanted: str, found: str) -> ConfigError:
    here = ["auto", "cpu"] + [f"cuda:{k}" for k in range(torch.cuda.device_count() if torch.cuda.is_available() else 0)]
    here += ["mps"] * torch.backends.mps.is_available()
    return ConfigError(
        f'model.device = "{wanted}" is not there: {found}',
        code="config.device",
        allowed=", ".join(here),
        remedy='set model.device = "auto", or install a torch that is built for this device',
    )
