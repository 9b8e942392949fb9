"""How good an adapter is on a data set."""

from fedpeft.evaluation.accuracy import Evaluation, evaluate

__all__ = ["Evaluation", "evaluate"]
