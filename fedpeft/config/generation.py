"""`[generation]`: the answers that a model writes while it is evaluated."""

from __future__ import annotations

from fedpeft.config.table import Natural, Positive, Table


class GenerationTable(Table):
    """`[generation]`: greedy answers of the task `instructions`, by which exact match and ROUGE-L are scored."""

    examples: Natural = 32  # of each data set that is evaluated, spread evenly over it; 0 = none are written
    max_new_tokens: Positive = 64  # an answer ends here, or with the end of the turn
