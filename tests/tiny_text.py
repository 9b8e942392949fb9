"""A text federation that trains in well under a second: a BERT or GPT-2 of width 16, and CSV files of colours.

`save_model(folder)` writes a model folder as `save_pretrained` does, tokenizer included; `write_run(folder)` writes the
model, the data and a run file that uses both.
"""

from pathlib import Path
from typing import Any

import tomlkit

WORDS = {"sky": ["sky", "sea", "rain", "ice"], "sun": ["sun", "lemon", "sand", "gold"]}
FILLERS = ["the", "a", "this", "my", "that", "our"]
VOCABULARY = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *FILLERS, "is", "here", *WORDS["sky"], *WORDS["sun"]]


def tokenizer(*, padding: bool = True) -> Any:
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    core = Tokenizer(models.WordLevel({word: i for i, word in enumerate(VOCABULARY)}, unk_token="[UNK]"))
    core.pre_tokenizer = pre_tokenizers.Whitespace()
    core.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    tokens = {"unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]", "eos_token": "[SEP]"}
    return PreTrainedTokenizerFast(tokenizer_object=core, **tokens, **({"pad_token": "[PAD]"} if padding else {}))


def bert_config(**more: Any) -> Any:
    from transformers import BertConfig

    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    return BertConfig(vocab_size=len(VOCABULARY), max_position_embeddings=32, initializer_range=0.2, **sizes, **more)


def gpt2_config(**more: Any) -> Any:
    from transformers import GPT2Config

    sizes = {"n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 32}
    return GPT2Config(
        vocab_size=len(VOCABULARY), initializer_range=0.2, eos_token_id=3, bos_token_id=3, **sizes, **more
    )


def save_model(folder: Path, model: Any = None, *, padding: bool = True) -> Path:
    """Write a model, by default a BERT with its pooler, and its tokenizer."""
    import torch
    from transformers import BertModel, logging

    logging.disable_progress_bar()
    if model is None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(17)
            model = BertModel(bert_config())
    model.save_pretrained(str(folder))
    tokenizer(padding=padding).save_pretrained(str(folder))
    return folder


def rows(count: int, *, shift: int = 0) -> list[tuple[str, str]]:
    """Texts and labels in turn: `the sky is here`, `sky`."""
    found = []
    for i in range(shift, shift + count):
        label = ("sky", "sun")[i % 2]
        found.append((f"{FILLERS[i % 6]} {WORDS[label][(i // 2) % 4]} is here", label))
    return found


def write_csv(path: Path, examples: list[tuple[str, str]]) -> Path:
    path.write_text("".join(f"{text},{label}\n" for text, label in [("text", "label"), *examples]), encoding="utf-8")
    return path


def write_run(folder: Path, **changes: Any) -> Path:
    """Write `model/`, `data/` and `run.toml`; `changes` are keys of it with `__` for the dot, None removes one."""
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "model").exists():
        save_model(folder / "model")
    (folder / "data").mkdir(exist_ok=True)
    write_csv(folder / "data" / "train.csv", rows(48))
    write_csv(folder / "data" / "test.csv", rows(16, shift=5))
    table: dict[str, Any] = {
        "run": {"name": "colours", "rounds": 2, "seed": 3, "folder": str(folder / "runs")},
        "model": {"source": "model", "max_length": 8},
        "adapter": {"rank": 2, "alpha": 4},
        "data": {
            "source": "csv",
            "folder": "data",
            "train": "train.csv",
            "test": "test.csv",
            "partition": {"name": "iid"},
        },
        "devices": [{"name": "phone", "clients": 3}],
        "round": {"ask": 2, "gather_s": 500.0},  # who comes late on a busy machine is still of the first cohort
        "local": {"steps": 2, "batch_size": 4, "learning_rate": 0.01},
        "evaluation": {"centralised": False},
    }
    for key, value in changes.items():
        *parents, last = key.split("__")
        place = table
        for parent in parents:
            place = place.setdefault(parent, {})
        if value is None:
            place.pop(last, None)
        else:
            place[last] = value
    path = folder / "run.toml"
    path.write_text(tomlkit.dumps(table), encoding="utf-8")
    return path
