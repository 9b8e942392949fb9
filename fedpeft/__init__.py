"""Federated parameter-efficient fine-tuning: many devices, one frozen base model, only small things on the wire.

`import fedpeft` is light: it brings in neither torch nor Flower. `fedpeft.simulate` loads what it needs when called.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fedpeft.version import __version__

if TYPE_CHECKING:
    from fedpeft.api import RunResult, run, simulate
    from fedpeft.pruning.loading import load_pruned

__all__ = ["RunResult", "__version__", "load_pruned", "run", "simulate"]


def __getattr__(name: str) -> Any:
    """Load the notebook surface on first use, so that `fedpeft --help` does not pay for torch."""
    if name in {"RunResult", "run", "simulate"}:
        from fedpeft import api

        return getattr(api, name)
    if name == "load_pruned":
        from fedpeft.pruning.loading import load_pruned

        return load_pruned
    raise AttributeError(f"module 'fedpeft' has no attribute {name!r}")
