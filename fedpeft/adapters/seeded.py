"""Torch's own generators under a seed, for what draws from nothing else: dropout, and peft's initial values."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch


@contextlib.contextmanager
def seeded_torch(seed: int, device: torch.device) -> Iterator[None]:
    """Start torch's generators from `seed` in here, and give them back as they were.

    Args:
        seed: uint64; torch takes 63 bits of it.
        device: whose generator counts, beside the CPU's.
    """
    if device.type != "cpu":
        with torch.random.fork_rng(devices=[device], device_type=device.type):
            torch.manual_seed(seed % 2**63)
            yield
        return
    generator = torch.default_generator  # `torch.manual_seed` would also note a call for every other kind of device
    state = generator.get_state()
    generator.manual_seed(seed % 2**63)
    try:
        yield
    finally:
        generator.set_state(state)
