"""LoRA (Hu et al. 2021, arXiv 2106.09685), layers and files by HF peft; and what peft makes of it by a switch.

    y = W x + (alpha / r) B A x          d = r (in + out) a layer

DoRA trains the size of every row of W beside it, rsLoRA scales by alpha / √r, PiSSA starts from W's largest singular
vectors.
"""

from __future__ import annotations

from fedpeft.adapters.base_model import BaseModel
from fedpeft.adapters.flat import FlatAdapter
from fedpeft.adapters.kinds.by_config import by_config
from fedpeft.config import AdapterTable


def lora(base: BaseModel, table: AdapterTable, *, classifier: bool, seed: int) -> FlatAdapter:
    """Low-rank pairs on the target modules, and a fresh classifier's head whole.

    Args:
        base: loaded; it is changed in place.
        table: rank, alpha, dropout, target modules, and any key of `peft.LoraConfig`.
        classifier: the base is a sequence classifier.
        seed: the run's.

    Raises:
        ModelError: the table does not fit the model.
    """
    return by_config(base, table, classifier=classifier, seed=seed)
