"""Every type that HF peft brings, by its name in lower case and peft's own settings: `ia3`, `vera`, `prompt_tuning`...

    from fedpeft.adapters.kinds.by_config import ia3        # made when it is asked for: one function for all of them

simulations/ADAPTERS.md lists them with what they send.
"""

from __future__ import annotations

from typing import Any

from fedpeft.adapters.base_model import BaseModel
from fedpeft.adapters.build import build_adapter, linear_layers
from fedpeft.adapters.configure import peft_config
from fedpeft.adapters.flat import FlatAdapter
from fedpeft.adapters.saved import build_saved
from fedpeft.adapters.unreached import unreached
from fedpeft.config import AdapterTable


def by_config(base: BaseModel, table: AdapterTable, *, classifier: bool, seed: int) -> FlatAdapter:
    """The table's type on the table's modules, and a fresh classifier's head whole.

    Args:
        base: loaded; it is changed in place.
        table: its type, and settings of that type; with `start`, the folder's.
        classifier: the base is a sequence classifier.
        seed: the run's.

    Raises:
        ModelError: the table does not fit the type or the model, or the folder is none of peft's.
    """
    if table.start is not None:
        return build_saved(base, table, classifier=classifier, seed=seed)
    form = base.form.name
    output = base.model.get_output_embeddings() if form == "causal-lm" else None  # type: ignore[operator]
    never = unreached(base.model)
    layers = linear_layers(base.model).items()
    linear = [name for name, layer in layers if layer is not output and name not in never]  # peft's all-linear
    config = peft_config(table, classifier=classifier, fresh=base.fresh, linear=linear, pooler=form != "encoder")
    config.task_type = base.form.peft_task
    return build_adapter(base.model, config, seed=seed, merged=table.merged)


def __getattr__(name: str) -> Any:
    if name.startswith("_"):
        raise AttributeError(name)
    return by_config
