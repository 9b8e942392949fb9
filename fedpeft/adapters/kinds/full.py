"""No adapter: every parameter of the base is trained, as FedAvg began (McMahan et al. 2017, arXiv 1602.05629).

What an adapter is measured against, and all there is to train in a small module of one's own. An update is as large as
the model, and so is every client's state.
"""

from __future__ import annotations

from fedpeft.adapters.base_model import BaseModel
from fedpeft.adapters.flat import FlatAdapter
from fedpeft.adapters.kinds.unfrozen import unused
from fedpeft.config import AdapterTable


def full(base: BaseModel, table: AdapterTable, *, classifier: bool, seed: int) -> FlatAdapter:
    """All parameters, but for a bare encoder's pooler, which nobody reads.

    Args:
        base: loaded; it is changed in place.
        table: only its type counts.
        classifier: the base is a classifier.
        seed: nothing is drawn.
    """
    skipped = () if classifier else unused(base)
    for name, parameter in base.model.named_parameters():
        if parameter.is_floating_point() and not name.startswith(skipped):
            parameter.requires_grad_(True)
    return FlatAdapter(base.model.eval())
