"""What the kinds without peft share: which modules are left out, and which are trained whole."""

from __future__ import annotations

from fedpeft.adapters.base_model import BaseModel


def unused(base: BaseModel) -> tuple[str, ...]:
    """Prefixes of parameters that get nothing trainable: a fresh module is trained whole, and nobody reads a bare
    encoder's pooler."""
    fresh = tuple(f"{name}." for name in base.fresh)
    if base.form.name != "encoder":
        return fresh
    poolers = {f"{name}." for name, _ in base.model.named_modules() if name.rpartition(".")[2] == "pooler"}
    return (*fresh, *sorted(poolers))


def unfreeze_head(base: BaseModel, *, classifier: bool) -> None:
    """Train a fresh classifier's modules whole: nobody else has their values."""
    if classifier:
        for name in base.fresh:
            base.model.get_submodule(name).requires_grad_(True)
