"""A base of one's own: a torch module that a function in a file makes, `model.source = "my/model.py:build"`.

def build(label_names):            # or without the argument
    return torch.nn.Sequential(torch.nn.Linear(64, 32), torch.nn.ReLU(), torch.nn.Linear(32, len(label_names)))
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence

import torch

from fedpeft.adapters.seeded import seeded_torch
from fedpeft.errors import ModelError
from fedpeft.randomness.streams import derive_seed
from fedpeft.registry import load


def is_own(source: str) -> bool:
    """Whether a `model.source` names a function in a file."""
    return ".py:" in source


def build_module(source: str, label_names: Sequence[str], seed: int) -> torch.nn.Module:
    """Call the function; what it draws from torch's default generator depends on the run's seed alone.

    Args:
        source: `path/file.py:function`.
        label_names: handed to the function where it has a parameter of that name.
        seed: of the run.

    Raises:
        PluginError: there is no such file or function, or the file fails to import.
        ModelError: the function fails, or returns no torch module.
    """
    function = load("model", source)
    try:
        takes_labels = "label_names" in inspect.signature(function).parameters
        with seeded_torch(derive_seed(seed, "own-model"), torch.device("cpu")):
            module = function(label_names=tuple(label_names)) if takes_labels else function()
    except Exception as error:  # whatever it is, it is the user's own, and only here is it known whose
        raise ModelError(
            f"model.source = {source!r}: the function failed: {type(error).__name__}: {error}",
            code="model.own-failed",
            allowed="a function without arguments, or of label_names, that returns a torch.nn.Module",
            remedy="call it in Python and correct what it reports",
        ) from error
    if not isinstance(module, torch.nn.Module):
        raise ModelError(
            f"model.source = {source!r}: the function returned a {type(module).__name__}",
            code="model.own-no-module",
            allowed="a torch.nn.Module",
            remedy="return the module",
        )
    return module
