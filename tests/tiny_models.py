"""Models of four architectures with a few thousand weights, made in the test, and clients with work for them.

`encoder(kind)` makes one, with weights from a fixed seed; `classify` is a loss per example over its last hidden state
(or its logits); `jobs` gives each client its own data, seed and, on request, its own plan. Widths are multiples of 32:
below that, torch's vector routines treat the last numbers of a tensor otherwise, whoever's they are.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import torch
from torch.nn.functional import cross_entropy

from fedpeft.adapters import FlatAdapter
from fedpeft.training import TrainingJob
from fedpeft.training.batched.forward import forward_backward
from fedpeft.training.batched.model import ClientAxis
from fedpeft.training.batched.seat import Seat
from fedpeft.training.batches import Count
from fedpeft.training.task import Outcomes
from fedpeft.types import ClientId, Plan

WIDTH = 32
VOCABULARY = 40
QUERY_AND_VALUE = {
    "bert": ["query", "value"],
    "vit": ["q_proj", "v_proj"],
    "gpt2": ["c_attn"],
    "llama": ["q_proj", "v_proj"],
}
NORMS = {
    "bert": ["LayerNorm"],
    "vit": ["layernorm_before", "layernorm_after"],
    "gpt2": ["ln_1", "ln_2"],
    "llama": ["input_layernorm", "post_attention_layernorm"],
}


def encoder(kind: str, *, head: bool = False, **more: Any) -> torch.nn.Module:
    """A frozen model in eval mode; with `head`, a classifier of three classes."""
    import transformers as t

    wide = {"num_hidden_layers": 2, "num_attention_heads": 4, "hidden_size": WIDTH, "intermediate_size": 2 * WIDTH}
    if kind == "gpt2":
        wide = {"n_layer": 2, "n_head": 4, "n_embd": WIDTH, "n_positions": 32, "bos_token_id": 1, "eos_token_id": 1}
    own: dict[str, Any] = {
        "bert": {"vocab_size": VOCABULARY, "max_position_embeddings": 32},
        "vit": {"image_size": 8, "patch_size": 4, "num_channels": 3},
        "gpt2": {"vocab_size": VOCABULARY, "pad_token_id": 0},
        "llama": {"vocab_size": VOCABULARY, "num_key_value_heads": 2, "max_position_embeddings": 32, "pad_token_id": 0},
    }[kind]
    name = {"bert": "Bert", "vit": "ViT", "gpt2": "GPT2", "llama": "Llama"}[kind]
    config = getattr(t, f"{name}Config")(**{**wide, **own, **more}, initializer_range=0.2, num_labels=3)
    suffix = ("ForImageClassification" if kind == "vit" else "ForSequenceClassification") if head else "Model"
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(17)
        model = getattr(t, f"{name}{suffix}")(config)
        with torch.no_grad():  # norms and biases as in a trained model, not ones and zeros
            for parameter in model.parameters():
                if parameter.ndim == 1:
                    parameter.add_(0.1 * torch.randn_like(parameter))
    return model.requires_grad_(False).eval()


def linear_names(model: torch.nn.Module) -> list[str]:
    """The last names of the layers that multiply by a matrix, GPT-2's Conv1D among them; heads left out."""
    kinds = {"Linear", "Conv1D"}
    found = {name.rsplit(".", 1)[-1] for name, module in model.named_modules() if type(module).__name__ in kinds}
    return sorted(found - {"classifier", "score"})


class Rows(list[dict[str, torch.Tensor]]):
    """A client's examples: each is a dictionary with `label` and the model's inputs."""

    @property
    def lengths(self) -> Any:
        return np.array([len(row["input_ids"]) if "input_ids" in row else 1 for row in self])


def examples(kind: str, count: int, seed: int, *, lengths: tuple[int, int] = (5, 5)) -> Rows:
    """A client's data: texts of a length between these two, or images of 8 x 8."""
    generator = torch.Generator().manual_seed(seed)
    rows = Rows()
    for _ in range(count):
        label = torch.randint(3, (), generator=generator)
        if kind == "vit":
            rows.append({"pixel_values": torch.randn(3, 8, 8, generator=generator), "label": label})
        else:
            length = int(torch.randint(lengths[0], lengths[1] + 1, (), generator=generator))
            rows.append({"input_ids": torch.randint(2, VOCABULARY, (length,), generator=generator), "label": label})
    return rows


class Classify:
    """A task over such examples: cross-entropy of the logits, or of three directions of the mean hidden state."""

    def encode(self, data: Any) -> Any:
        return data

    def select(self, data: Any, indices: Any) -> Any:
        return Rows(data[i] for i in indices)

    def pool(self, data: Any) -> Any:
        return Rows(row for part in data for row in part)

    def batch(self, data: Any, indices: Any) -> Any:
        rows = [data[int(i)] for i in indices]
        inputs: dict[str, torch.Tensor] = {}
        if "pixel_values" in rows[0]:
            inputs["pixel_values"] = torch.stack([row["pixel_values"] for row in rows])
        else:
            ids = [row["input_ids"] for row in rows]
            inputs["input_ids"] = torch.nn.utils.rnn.pad_sequence(ids, batch_first=True)
            inputs["attention_mask"] = (inputs["input_ids"] != 0).long()
        return (Count(len(rows)), inputs, torch.stack([row["label"] for row in rows]))

    def prepare(self, model: torch.nn.Module) -> None:
        return None

    def outcomes(self, model: torch.nn.Module, batch: Any, prepared: None) -> Outcomes:
        _, inputs, labels = batch
        found = model(**inputs)
        if "logits" in found:
            logits = found.logits.float()
        else:
            hidden = found.last_hidden_state.float()
            logits = 4.0 * hidden[..., : hidden.shape[-1] // 3 * 3].unflatten(-1, (3, -1)).mean(-1).mean(1)
        return Outcomes(cross_entropy(logits, labels, reduction="none"))


def plan(client: str, **more: Any) -> Plan:
    fields = {"seed": 7 + sum(map(ord, client)), "steps": 3, "batch_size": 4, "learning_rate": 0.05, **more}
    return Plan(run="r", round=2, attempt=1, client=ClientId(client), **fields)


def jobs(kind: str, start: Any, clients: int, *, lengths: tuple[int, int] = (5, 5), **more: Any) -> list[TrainingJob]:
    """`clients` jobs c0, c1, ... under like plans."""
    return [
        TrainingJob(plan(f"c{k}", **more), start, examples(kind, 10, seed=k, lengths=lengths)) for k in range(clients)
    ]


def scattered(theta: Any, *, spread: float = 0.05, seed: int = 3) -> Any:
    """θ moved off its initial value, where half of LoRA's gradients are zero."""
    noise = np.random.default_rng(seed).normal(0, spread, theta.shape)
    return (theta + noise).astype(np.float32)


def plain_gradient(adapter: FlatAdapter, task: Any, job: TrainingJob, theta: Any) -> torch.Tensor:
    """By the model's own forward pass and autograd, as a user of peft would write it."""
    adapter.set(theta)
    adapter.gradient.zero_()
    adapter.train(True)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(job.plan.seed)
        seat = Seat(0, job, task, None, adapter.theta.device)
        seat.advance()
        task.outcomes(adapter.model, seat.batch, None).losses.mean().backward()
    adapter.train(False)
    return adapter.gradient.clone()


def together_and_alone(adapter: FlatAdapter, kind: str, clients: int = 3) -> tuple[torch.Tensor, torch.Tensor]:
    """(N, d) twice: gradients of clients that differ in θ, data and seed."""
    task, work = Classify(), jobs(kind, scattered(adapter.get()), clients)
    work = [dataclasses.replace(job, start=scattered(job.start, seed=k)) for k, job in enumerate(work)]
    seats = [Seat(k, job, task, None, adapter.theta.device) for k, job in enumerate(work)]
    for seat in seats:
        seat.advance()
    together = forward_backward(ClientAxis(adapter), task, seats)[1].clone()
    return together, torch.stack([plain_gradient(adapter, task, job, job.start) for job in work])


def assert_close(adapter: FlatAdapter, together: torch.Tensor, alone: torch.Tensor, bound: float = 1e-5) -> None:
    """Tensor by tensor; one whose gradient is 1 % of the whole or less (a key's bias: 0 but for rounding) counts as
    if it were that much."""
    for mine, right in zip(together, alone, strict=True):
        assert float(right.norm()) > 1e-3
        for tensor in adapter.layout.tensors:
            place = slice(tensor.offset, tensor.offset + tensor.size)
            size = max(float(right[place].norm()), 0.01 * float(right.norm()))
            assert float((mine[place] - right[place]).norm()) <= bound * size, tensor.name
