"""The coordinator: asks, guards, folds and commits, over any Transport and Clock. Knows no Flower and no torch."""

from fedpeft.server.coordinator import Coordinator, adapter_hash
from fedpeft.server.state import Settings

__all__ = ["Coordinator", "Settings", "adapter_hash"]
