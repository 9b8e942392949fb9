"""LoRA (Hu et al. 2021, arXiv 2106.09685), layers and files by HF peft."""

from __future__ import annotations

from fedpeft.adapters.base_model import BaseModel
from fedpeft.adapters.build import build_adapter, lora_config
from fedpeft.adapters.flat import FlatAdapter
from fedpeft.config import AdapterTable


def lora(base: BaseModel, table: AdapterTable, *, classifier: bool, seed: int) -> FlatAdapter:
    """W + (alpha / r) B A on the target modules, and a fresh classifier's head whole.

    Args:
        base: loaded; it is changed in place.
        table: rank, alpha, dropout, target modules.
        classifier: the base is a sequence classifier.
        seed: the run's.

    Raises:
        ModelError: the table does not fit the model.
    """
    return build_adapter(base.model, lora_config(table, classifier=classifier, fresh=base.fresh), seed=seed)
