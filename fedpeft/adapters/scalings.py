"""What peft multiplies each LoRA layer's product with: α/r, or α/√r of rslora, each layer's own."""

from __future__ import annotations

from peft.tuners.lora import LoraLayer

from fedpeft.adapters.flat import FlatAdapter, canonical_name
from fedpeft.types import LORA_A


def lora_scalings(adapter: FlatAdapter) -> dict[str, float]:
    """Scaling by layer, under the name that its tensors' canonical names begin with; empty without LoRA."""
    found: dict[str, float] = {}
    for name, module in adapter.model.named_modules():
        if isinstance(module, LoraLayer):
            for active in module.active_adapters:
                key = canonical_name(f"{name}.lora_A.{active}.weight", active)
                found[key.removesuffix(LORA_A)] = float(module.scaling[active])
    return found
