"""What is trained: HF peft's adapters on a frozen base, seen as one flat vector. The only place that imports peft."""

from fedpeft.adapters.architecture import ARCHITECTURES, ArchitectureName
from fedpeft.adapters.base_model import BaseModel, load_base
from fedpeft.adapters.build import build_adapter
from fedpeft.adapters.configure import peft_config
from fedpeft.adapters.export import export_adapter, export_merged
from fedpeft.adapters.flat import FlatAdapter

__all__ = [
    "ARCHITECTURES",
    "ArchitectureName",
    "BaseModel",
    "FlatAdapter",
    "build_adapter",
    "export_adapter",
    "export_merged",
    "load_base",
    "peft_config",
]
