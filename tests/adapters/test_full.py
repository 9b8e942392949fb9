"""Training everything: all parameters that count, nothing else."""

import torch
from tiny_text import save_model

from fedpeft.adapters import load_base
from fedpeft.config import AdapterTable
from fedpeft.registry import load


def test_every_parameter_is_trained_but_an_unread_pooler(tmp_path):
    source = str(save_model(tmp_path / "model"))
    base = load_base(source)
    adapter = load("adapter", "full")(base, AdapterTable(type="full"), classifier=False, seed=0)
    names = {name for name, _ in base.model.named_parameters()}
    assert set(adapter.parameters) == {name for name in names if not name.startswith("pooler.")}
    before = adapter.get()
    adapter.set(before + 1)
    plain = load_base(source).model.state_dict()
    name = next(iter(adapter.parameters))
    assert torch.allclose(base.model.get_parameter(name), plain[name] + 1)


def test_a_classifier_is_trained_with_its_pooler_and_head(tmp_path):
    base = load_base(str(save_model(tmp_path / "model")), labels=["a", "b"])
    adapter = load("adapter", "full")(base, AdapterTable(type="full"), classifier=True, seed=0)
    assert set(adapter.parameters) == {name for name, _ in base.model.named_parameters()}
