"""Which arm (rank, pruning ratio, codec, local steps) a client gets: bandits over device classes, as plain data.

Floor 3: NumPy and no torch; knows no coordinator. A scheduler is a file of this folder, a line in the registry and a
line in tests/contracts/test_schedulers.py.
"""

from fedpeft.scheduling.arms import Arm, Grid
from fedpeft.scheduling.contract import Choice, ClassTimes, Load, Outcome, Request, Scheduler, Setting
from fedpeft.scheduling.reward import Measured, Reference

__all__ = [
    "Arm",
    "Choice",
    "ClassTimes",
    "Grid",
    "Load",
    "Measured",
    "Outcome",
    "Reference",
    "Request",
    "Scheduler",
    "Setting",
]
