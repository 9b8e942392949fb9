"""The maths of a round: many updates in, one out.

`WeightedMean` adds client deltas one by one in fixed point, so that neither memory nor the result depends on how many
reply or in which order. `UpdateGuard` stands before it and turns away what one bad client could spoil a round with.
Both pass over updates by `passes`: NumPy, or numba where it is installed, with the same bits. `rules` mix LoRA factors
of one rank or of several by what they stand for, their products, without forming them (`factors`). No policy here:
strategies decide what to fold and how.
"""

from fedpeft.aggregation.guard import UpdateGuard
from fedpeft.aggregation.mean import WeightedMean

__all__ = ["UpdateGuard", "WeightedMean"]
