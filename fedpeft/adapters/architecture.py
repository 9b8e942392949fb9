"""Which form of a model a task needs: its class in `transformers`, and what turns examples into its inputs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

ArchitectureName: TypeAlias = Literal["encoder", "sequence-classifier", "causal-lm", "image-classifier", "own"]
"""What a task's `architecture` says. "own" is a torch module that the run file names as `my/model.py:build`."""

ARCHITECTURES: tuple[str, ...] = get_args(ArchitectureName)


@dataclass(frozen=True, slots=True)
class Architecture:
    """How a form of model is loaded."""

    name: ArchitectureName
    auto_class: str  # of transformers; empty for one's own
    reader: Literal["tokenizer", "image-processor", "none"]
    classifier: bool = False  # has a head with one output a label, which travels with the adapter where it is fresh
    peft_task: str | None = None  # peft's task type, which an exported adapter names; None: none fits


_FORMS: dict[ArchitectureName, Architecture] = {
    form.name: form
    for form in (
        Architecture("encoder", "AutoModel", "tokenizer"),
        Architecture("sequence-classifier", "AutoModelForSequenceClassification", "tokenizer", True, "SEQ_CLS"),
        Architecture("causal-lm", "AutoModelForCausalLM", "tokenizer", False, "CAUSAL_LM"),
        Architecture("image-classifier", "AutoModelForImageClassification", "image-processor", True),
        Architecture("own", "", "none"),
    )
}


ENCODER = _FORMS["encoder"]


def architecture(name: ArchitectureName) -> Architecture:
    """The form of that name."""
    return _FORMS[name]
