"""How good an adapter is on a data set."""

from fedpeft.evaluation.means import Evaluation, evaluate

__all__ = ["Evaluation", "evaluate"]
