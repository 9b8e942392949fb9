"""BitFit (Ben Zaken et al. 2022, arXiv 2106.10199): the biases are trained, and nothing else.

The smallest update there is that needs no new layers: 0.1 % of BERT's parameters.
"""

from __future__ import annotations

from fedpeft.adapters.base_model import BaseModel
from fedpeft.adapters.flat import FlatAdapter
from fedpeft.adapters.kinds.unfrozen import unfreeze_head, unused
from fedpeft.config import AdapterTable


def bitfit(base: BaseModel, table: AdapterTable, *, classifier: bool, seed: int) -> FlatAdapter:
    """All biases of linear layers and norms, and a fresh classifier's head whole.

    Args:
        base: loaded; it is changed in place.
        table: only its type counts.
        classifier: the base is a sequence classifier.
        seed: nothing is drawn.

    Raises:
        ModelError: the model has no bias, as Llama's has none.
    """
    skipped = unused(base)
    for name, parameter in base.model.named_parameters():
        if name.endswith("bias") and not name.startswith(skipped):
            parameter.requires_grad_(True)
    unfreeze_head(base, classifier=classifier)
    return FlatAdapter(base.model.eval())
