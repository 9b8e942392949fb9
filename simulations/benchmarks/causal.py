"""A causal language model for timing: a random Llama of 58M parameters, eight layers, vocabulary 32,000."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from fedpeft.adapters import FlatAdapter, build_adapter
from fedpeft.training import TrainingJob
from fedpeft.training.losses import token_losses
from fedpeft.training.tasks.custom import CustomTask
from simulations.benchmarks.workload import RATE, Shape, plan_of

VOCABULARY = 32_000


def llama(dtype: str = "fp32") -> torch.nn.Module:
    """The model, frozen; in "bf16" with the attention that a run file's model.dtype brings."""
    import transformers

    from fedpeft.kernels.attention import register

    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        hidden_size=512,
        intermediate_size=1376,
        num_hidden_layers=8,
        num_attention_heads=8,
        num_key_value_heads=8,
        vocab_size=VOCABULARY,
        max_position_embeddings=512,
        use_cache=False,
    )
    model: Any = transformers.LlamaForCausalLM(config)
    if dtype == "bf16":
        model.to(torch.bfloat16)
        model.set_attn_implementation(register())
    frozen: torch.nn.Module = model.requires_grad_(False).eval()
    return frozen


def llama_lora(**more: Any) -> Any:
    """Rank 8 on the query and value projections."""
    import peft

    return peft.LoraConfig(r=8, lora_alpha=16, lora_dropout=0.0, target_modules=["q_proj", "v_proj"], **more)


def llama_adapter(dtype: str) -> FlatAdapter:
    """With its adapter on it."""
    return build_adapter(llama(dtype), llama_lora(), seed=0)


def llama_task() -> CustomTask:
    """Next-token loss, per example, without ever holding all logits."""

    def loss(model: Any, ids: torch.Tensor) -> torch.Tensor:
        hidden = model.get_base_model().model(input_ids=ids).last_hidden_state
        return token_losses(hidden[:, :-1], model.get_base_model().lm_head, ids[:, 1:])

    return CustomTask(loss)


def _ids(clients: int, shape: Shape) -> torch.Tensor:
    rng = np.random.default_rng(0)
    return torch.from_numpy(rng.integers(0, VOCABULARY, (clients, shape.examples, shape.tokens)))


def llama_jobs(adapter: FlatAdapter, clients: int, shape: Shape) -> list[TrainingJob]:
    """So many clients' work of one round."""
    start = adapter.get()
    return [
        TrainingJob(plan_of(client, shape.examples), start, list(rows))
        for client, rows in enumerate(_ids(clients, shape))
    ]


def llama_peft(clients: int, shape: Shape) -> Callable[[], None]:
    """The same with HF peft, one client after the other."""
    import peft

    wrapped = peft.get_peft_model(llama(), llama_lora(task_type="CAUSAL_LM")).eval()
    start = {name: value.clone() for name, value in peft.get_peft_model_state_dict(wrapped).items()}
    trained = [parameter for parameter in wrapped.parameters() if parameter.requires_grad]
    ids = _ids(clients, shape)

    def run() -> None:
        for x in ids:
            peft.set_peft_model_state_dict(wrapped, start)
            optimizer = torch.optim.AdamW(trained, lr=RATE)
            loss = wrapped(input_ids=x, labels=x).loss
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            peft.get_peft_model_state_dict(wrapped)

    return run
