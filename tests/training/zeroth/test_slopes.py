"""Slopes by forward-mode differentiation are zᵀ times the gradient of backpropagation, on every architecture."""

import numpy as np
import peft
import pytest
import torch
import zeroth_jobs
from tiny_language import chats, save_decoder
from tiny_models import NORMS, QUERY_AND_VALUE, Classify, encoder, jobs, linear_names, scattered
from zeroth_jobs import cross_entropy, job

from fedpeft.adapters import FlatAdapter, build_adapter, load_base
from fedpeft.errors import ModelError
from fedpeft.kernels import install
from fedpeft.registry import load, names
from fedpeft.training import TaskContext, losses
from fedpeft.training.tasks.custom import CustomTask
from fedpeft.training.tasks.instructions import Instructions
from fedpeft.training.zeroth.estimators.forward_gradient import ForwardGradient
from fedpeft.training.zeroth.slopes import slopes_along
from fedpeft.training.zeroth.trainer import ZerothTrainer
from fedpeft.zeroth.hadamard import HadamardPool

KINDS = ["bert", "vit", "gpt2", "llama"]
every_kind = pytest.mark.parametrize("kind", KINDS)


def lora(kind, **more):
    return peft.LoraConfig(r=4, target_modules=more.pop("target_modules", QUERY_AND_VALUE[kind]), **more)


def directions(size, count=3):
    return [HadamardPool(64, 1).direction(0, number, 0, size) for number in range(count)]


def check(adapter, kind, bound=1e-4):
    """The slopes along three directions, and the loss, against autograd's."""
    task = Classify()
    adapter.set(scattered(adapter.get()))
    before = adapter.get()
    (one,) = jobs(kind, before, 1)
    batch = task.batch(one.data, np.arange(4))
    loss, found = slopes_along(adapter, task, batch, None, directions(adapter.layout.size))
    assert (adapter.get() == before).all()
    adapter.gradient.zero_()
    right = task.outcomes(adapter.model, batch, None).losses.mean()
    right.backward()
    assert loss == pytest.approx(float(right.detach()), rel=1e-5)
    gradient = adapter.gradient.double().numpy()
    exact = np.array([own.values() @ gradient for own in directions(adapter.layout.size)])
    np.testing.assert_allclose(found, exact, atol=bound * np.linalg.norm(gradient))
    assert np.abs(exact).max() > 1e-3


@every_kind
@pytest.mark.parametrize("head", [False, True])
@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_lora(kind, head, attention):
    check(build_adapter(encoder(kind, head=head, attn_implementation=attention), lora(kind), seed=1), kind)


@every_kind
@pytest.mark.parametrize("kernel", names("kernel"))
def test_over_the_products_of_every_kernel(kind, kernel):
    found = load("kernel", kernel)()
    if reason := found.available(torch.zeros(2, 2)):
        pytest.skip(reason)
    model = encoder(kind)
    adapter = build_adapter(model, lora(kind, target_modules=linear_names(model)), seed=1)
    install(adapter.model, found)
    check(adapter, kind)


@every_kind
def test_norms(kind):
    check(build_adapter(encoder(kind), peft.LNTuningConfig(target_modules=NORMS[kind]), seed=1), kind)


@every_kind
def test_every_weight(kind):
    check(FlatAdapter(encoder(kind).requires_grad_(True)), kind)


@pytest.mark.parametrize("config", [peft.IA3Config, peft.LoKrConfig, peft.VeraConfig], ids=lambda own: own.__name__)
def test_other_adapters(config):
    more = {"feedforward_modules": []} if config is peft.IA3Config else {"r": 2}
    check(build_adapter(encoder("bert"), config(target_modules=["query", "value"], **more), seed=1), "bert")


def test_loha_has_a_function_of_its_own_without_forward_mode():
    adapter = build_adapter(encoder("bert"), peft.LoHaConfig(target_modules=["query"], r=2), seed=1)
    with pytest.raises(ModelError, match="no forward-mode derivative: You must implement the jvp function"):
        check(adapter, "bert")


def test_a_loss_that_does_not_depend_on_the_weights_is_flat():
    own = zeroth_jobs.adapter()
    task = CustomTask(lambda model, batch: batch[0].sum(1))
    batch = task.batch(job().data, np.arange(5))
    _, found = slopes_along(own, task, batch, None, directions(own.layout.size))
    assert (found == 0).all()


class _NoForwardMode(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x.clone()


def test_a_model_without_forward_mode_says_so():
    own = zeroth_jobs.adapter()
    task = CustomTask(lambda model, batch: _NoForwardMode.apply(model(batch[0])).square().sum(1))
    batch = task.batch(job().data, np.arange(5))
    with pytest.raises(ModelError, match=r'zeroth\.estimator\.name = "forward-gradient".*no forward-mode derivative'):
        slopes_along(own, task, batch, None, directions(own.layout.size))


@pytest.mark.parametrize("queries", [1, 3])
def test_a_step_is_the_two_point_one_without_its_error(queries):
    """For a small ε both agree; the rate is small, so that the walks stay together."""
    from fedpeft.training.zeroth.estimators.two_point import TwoPoint

    one = job(batch_size=20, learning_rate=1e-3)
    (exact,) = zeroth_jobs.trainer(ZerothTrainer, estimator=ForwardGradient(queries)).run([one])
    (near,) = zeroth_jobs.trainer(ZerothTrainer, estimator=TwoPoint(queries), epsilon=1e-2).run([one])
    assert exact.scalars.shape == (6 * queries,)
    np.testing.assert_allclose(exact.scalars, near.scalars, rtol=2e-2, atol=2e-3)
    assert exact.metrics["loss_first"] == pytest.approx(near.metrics["loss_first"], rel=1e-3)


def test_it_learns():
    subject, coefficients = zeroth_jobs.trainer(estimator=ForwardGradient()), np.zeros(2 * zeroth_jobs.K, np.float32)
    reached = []
    for _ in range(8):
        one = job(start=np.rint(coefficients), steps=100, batch_size=20, learning_rate=0.002)
        (result,) = subject.run([one])
        coefficients += result.delta
        reached.append(result.metrics["loss_last"])
    assert reached[-1] < 0.8 * reached[0]


def test_a_slope_that_is_not_finite_skips_its_step():
    """√ has an infinite slope at 0, where it is 0."""

    class Once:
        calls = 0

        def __call__(self, model, batch):
            Once.calls += 1
            found = cross_entropy(model, batch)
            return found + (0 * found).sqrt() if Once.calls == 2 else found

    (result,) = zeroth_jobs.trainer(estimator=ForwardGradient(), loss=Once()).run([job(steps=3)])
    assert result.metrics["steps_skipped"] == 1
    assert [bool(scalar) for scalar in result.scalars] == [True, False, True]


@pytest.mark.parametrize("kind", ["gpt2", "llama"])
@pytest.mark.parametrize("kernel", ["torch", "onednn"])
def test_a_language_model_s_loss_without_all_its_logits(tmp_path, monkeypatch, kind, kernel):
    """Padded rows, learnt parts, and an output layer that is applied a few tokens at a time."""
    found = load("kernel", kernel)()
    if reason := found.available(torch.zeros(2, 2)):
        pytest.skip(reason)
    monkeypatch.setattr(losses, "CHUNK", 7)
    base = load_base(str(save_decoder(tmp_path, kind)), form="causal-lm")
    task = Instructions(TaskContext.of(base, max_length=64))
    adapter = build_adapter(base.model, lora(kind), seed=1)
    install(adapter.model, found)
    adapter.set(scattered(adapter.get()))
    batch, prepared = task.batch(task.encode(chats(5)), np.arange(5)), task.prepare(adapter.model)
    _, slopes = slopes_along(adapter, task, batch, prepared, directions(adapter.layout.size))
    task.outcomes(adapter.model, batch, prepared).losses.mean().backward()
    gradient = adapter.gradient.double().numpy()
    exact = [own.values() @ gradient for own in directions(adapter.layout.size)]
    np.testing.assert_allclose(slopes, exact, atol=1e-4 * np.linalg.norm(gradient))
