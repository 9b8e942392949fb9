"""Small language models and image classifiers with real tokenizers and processors, and data for them.

`save_decoder(folder)` writes a Llama or GPT-2 of width 32 with a byte-level BPE tokenizer that was trained on a few
sentences; `save_vit(folder)` a ViT for images of 8 x 8 with its processor. `chats(n)` are instructions with a rule that
can be learnt; `pictures(n)` are images that are red or blue.
"""

import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

IM_START, IM_END, END = "<|im_start|>", "<|im_end|>", "<|endoftext|>"
COLOURS = {"sky": "blue", "sun": "yellow", "leaf": "green", "coal": "black"}
SENTENCES = [f"What colour is the {thing}? It is {colour}." for thing, colour in COLOURS.items()] * 4 + [
    "system user assistant",
    "You are brief.",
    "### Instruction: ### Response:",
]
CHATML = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


@cache
def _core() -> str:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=[END, IM_START, IM_END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    core.train_from_iterator(SENTENCES, trainer)
    return str(core.to_str())


def bpe(template: str | None = CHATML, **more: Any) -> Any:
    """A byte-level BPE tokenizer; its end of text also pads."""
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerFast

    tokens = {"eos_token": END, "pad_token": END, "additional_special_tokens": [IM_START, IM_END], **more}
    found = PreTrainedTokenizerFast(tokenizer_object=Tokenizer.from_str(_core()), **tokens)
    found.chat_template = template
    return found


def decoder(kind: str = "llama", **more: Any) -> Any:
    """A frozen model with weights from a fixed seed."""
    import torch
    import transformers as t

    common: dict[str, Any] = {"vocab_size": 400, "initializer_range": 0.2, "bos_token_id": 0, "eos_token_id": 0}
    if kind == "gpt2":
        config = t.GPT2Config(n_embd=32, n_layer=2, n_head=4, n_positions=128, **common, **more)
        make = t.GPT2LMHeadModel
    else:
        sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
        config = t.LlamaConfig(num_key_value_heads=2, max_position_embeddings=128, **sizes, **common, **more)
        make = t.LlamaForCausalLM
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(17)
        return make(config).requires_grad_(False).eval()


def save_decoder(folder: Path, kind: str = "llama", *, tokenizer: Any = None) -> Path:
    """Write it as `save_pretrained` does."""
    from transformers import logging

    logging.disable_progress_bar()
    decoder(kind).save_pretrained(str(folder))
    (tokenizer or bpe()).save_pretrained(str(folder))
    return folder


def chats(count: int, *, shift: int = 0) -> Any:
    """Chats of two messages: what colour a thing is."""
    from fedpeft.data import PromptExamples

    found = []
    for i in range(shift, shift + count):
        thing = list(COLOURS)[i % len(COLOURS)]
        ask = {"role": "user", "content": f"{'What' if i % 3 else 'Say what'} colour is the {thing}?"}
        found.append((ask, {"role": "assistant", "content": f"It is {COLOURS[thing]}."}))
    return PromptExamples(tuple(found))


def vit(labels: int = 2, **more: Any) -> Any:
    """A ViT for 8 x 8 images with a head for so many labels."""
    import torch
    import transformers as t

    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    config = t.ViTConfig(image_size=8, patch_size=4, initializer_range=0.2, num_labels=labels, **sizes, **more)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(17)
        return t.ViTForImageClassification(config).requires_grad_(False).eval()


def save_vit(folder: Path, **more: Any) -> Path:
    """Write it as `save_pretrained` does, with a processor's file as on the hub."""
    from transformers import logging

    logging.disable_progress_bar()
    vit(**more).save_pretrained(str(folder))
    processor = {
        "image_processor_type": "ViTImageProcessor",
        "size": {"height": 8, "width": 8},
        "resample": 2,
        "image_mean": [0.5, 0.5, 0.5],
        "image_std": [0.5, 0.5, 0.5],
    }
    (folder / "preprocessor_config.json").write_text(json.dumps(processor))
    return folder


def pictures(count: int, *, shift: int = 0, size: int = 12) -> tuple[list[Any], list[int]]:
    """Images, uint8 of shape (size, size, 3), that are rather red (0) or rather blue (1), and which."""
    rng = np.random.default_rng(3 + shift)
    images, labels = [], []
    for i in range(count):
        image = rng.integers(0, 120, (size, size, 3)).astype(np.uint8)
        image[:, :, 2 * (i % 2)] += 120
        images.append(image)
        labels.append(i % 2)
    return images, labels
