"""The loss without all logits is the loss with them, for models of which that is true; others are noticed."""

import peft
import pytest
import torch
import torch.nn.functional as F
from tiny_language import decoder

from fedpeft.adapters import build_adapter
from fedpeft.kernels import choose_kernel, install
from fedpeft.training import output_layer
from fedpeft.training.losses import IGNORED
from fedpeft.training.output_layer import OutputLayer


def gemma():
    """Logits are capped after the output layer."""
    import transformers as t

    config = t.Gemma2Config(
        vocab_size=50,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=8,
        max_position_embeddings=64,
        initializer_range=0.2,
        final_logit_softcapping=2.0,
    )
    torch.manual_seed(17)
    return t.Gemma2ForCausalLM(config).requires_grad_(False).eval()


MODELS = {"llama": lambda: decoder("llama"), "gpt2": lambda: decoder("gpt2"), "gemma": gemma}
ADAPTERS = {
    "lora": lambda: peft.LoraConfig(r=2, target_modules="all-linear", task_type="CAUSAL_LM"),
    "lora on the output layer": lambda: peft.LoraConfig(r=2, target_modules=["lm_head"]),
    "output layer trained": lambda: peft.LoraConfig(r=2, target_modules="all-linear", modules_to_save=["lm_head"]),
    "prompts": lambda: peft.PromptTuningConfig(num_virtual_tokens=3, task_type="CAUSAL_LM"),
}
WHOLE = {("gemma", "lora"), ("gemma", "prompts")} | {
    (model, kind) for model in MODELS for kind in ("lora on the output layer", "output layer trained")
}


def batch():
    generator = torch.Generator().manual_seed(3)
    ids = torch.randint(1, 50, (3, 9), generator=generator)
    mask = torch.ones_like(ids)
    mask[1, 6:] = 0
    labels = ids.masked_fill(mask == 0, IGNORED)
    labels[0, :4] = IGNORED
    labels[2] = IGNORED  # nothing of it is learnt
    return {"input_ids": ids, "attention_mask": mask}, labels


@pytest.mark.filterwarnings("ignore:Model has `tie_word_embeddings=True`")
@pytest.mark.parametrize("kind", ADAPTERS)
@pytest.mark.parametrize("name", MODELS)
def test_losses_and_gradients_are_those_of_all_logits(name, kind):
    adapter = build_adapter(MODELS[name](), ADAPTERS[kind](), seed=1)
    adapter.theta.add_(0.02 * torch.randn(adapter.theta.shape, generator=torch.Generator().manual_seed(5)))
    layer = OutputLayer(adapter.model)
    assert layer.whole is ((name, kind) in WHOLE)
    inputs, labels = batch()
    losses = layer.losses(inputs, labels)
    losses.sum().backward()
    found = adapter.gradient.clone()
    adapter.gradient.zero_()
    logits = adapter.model(**inputs).logits[:, -9:][:, :-1]
    each = F.cross_entropy(logits.transpose(1, 2), labels[:, 1:], reduction="none", ignore_index=IGNORED)
    right = each.sum(1) / (labels[:, 1:] != IGNORED).sum(1).clamp(min=1)
    right.sum().backward()
    torch.testing.assert_close(losses, right, rtol=1e-5, atol=1e-6)
    assert losses[2] == 0
    assert (found - adapter.gradient).norm() < 1e-5 * adapter.gradient.norm()
    assert "forward" not in vars(layer.head)  # as it was


@pytest.mark.parametrize("name", ["llama", "gpt2"])
def test_only_learnt_tokens_meet_the_output_layer(name, monkeypatch):
    adapter = build_adapter(MODELS[name](), ADAPTERS["lora"](), seed=1)
    layer = OutputLayer(adapter.model)
    rows = []
    real = output_layer.held_product

    def counting(head):
        product = real(head)
        forward = product.forward
        product.forward = lambda x: rows.append(len(x)) or forward(x)
        return product

    monkeypatch.setattr("fedpeft.training.losses.held_product", counting)
    inputs, labels = batch()
    layer.losses(inputs, labels)
    assert sum(rows) == int((labels[:, 1:] != IGNORED).sum())


def test_a_kernel_s_forward_pass_is_given_back():
    adapter = build_adapter(decoder("llama"), ADAPTERS["lora"](), seed=1)
    plain = OutputLayer(adapter.model).losses(*batch())
    install(adapter.model, choose_kernel("torch", [], dtype=torch.float32, device="cpu").kernel)
    layer = OutputLayer(adapter.model)
    own = vars(layer.head)["forward"]
    torch.testing.assert_close(layer.losses(*batch()), plain)
    assert vars(layer.head)["forward"] is own
