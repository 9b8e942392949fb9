"""How much each head and channel matters, one file each (registry kind `importance`)."""

from fedpeft.pruning.importance.contract import Importance, Measured, is_measured

__all__ = ["Importance", "Measured", "is_measured"]
