"""What every importance must keep. To put one under this contract, add a line to `IMPORTANCES`."""

import numpy as np
import pytest
import torch
from tiny_models import Classify, examples
from tiny_pruning import gradient, made

from fedpeft.pruning.importance import is_measured
from fedpeft.pruning.scoring import Scoring
from fedpeft.registry import BUILTIN, build

IMPORTANCES = ["lora-gradient", "magnitude", "random"]
every_importance = pytest.mark.parametrize("name", IMPORTANCES)


def test_every_importance_is_on_the_list():
    assert set(IMPORTANCES) == set(BUILTIN["importance"])


@every_importance
def test_scores_at_the_beginning_are_finite_and_follow_from_the_seed(name):
    magnitudes = np.linspace(1, 2, 30)
    first, again = (build("importance", name, {}).begin(magnitudes, 7) for _ in range(2))
    assert first.shape == (30,)
    assert np.isfinite(first).all()
    assert np.array_equal(first, again)
    assert np.array_equal(magnitudes, np.linspace(1, 2, 30))


@every_importance
def test_what_is_measured_has_the_shape_of_what_is_trained(name):
    importance = build("importance", name, {})
    if is_measured(importance):
        theta, gradients = np.ones(5, dtype=np.float32), np.arange(5, dtype=np.float32)
        assert importance.contributions(theta, gradients).shape == (5,)
        assert theta.tolist() == [1] * 5


def test_only_the_lot_depends_on_the_seed():
    of = {name: [build("importance", name, {}).begin(np.ones(9), seed) for seed in (1, 2)] for name in IMPORTANCES}
    assert {name for name, (one, other) in of.items() if not np.array_equal(one, other)} == {"random"}


def test_magnitudes_are_the_norms_of_all_that_a_unit_owns():
    adapter, pruner = made("llama")
    layer = adapter.model.get_submodule("base_model.model.model.layers.1")
    attention, mlp = layer.self_attn, layer.mlp
    q, k, v, o = (getattr(attention, f"{each}_proj").base_layer.weight for each in "qkvo")
    second = torch.cat([q[16:].flatten(), k[8:].flatten(), v[8:].flatten(), o[:, 16:].flatten()])  # heads 2 and 3
    place = pruner.units.groups[2].start + 1
    assert pruner.magnitudes[place] == pytest.approx(float(second.norm()), rel=1e-5)
    rows = [mlp.gate_proj.base_layer.weight[5], mlp.up_proj.base_layer.weight[5], mlp.down_proj.base_layer.weight[:, 5]]
    place = pruner.units.groups[3].start + 5
    assert pruner.magnitudes[place] == pytest.approx(float(torch.cat(rows).norm()), rel=1e-5)


def test_the_gradient_score_is_the_taylor_term_of_the_whole_update():
    """|Σ (BA) ⊙ ∂L/∂(BA)| over a head's rows of query, key and value and its columns of the output, made densely."""
    adapter, pruner = made("bert")
    dense, hooks = {}, []
    block = "base_model.model.bert.encoder.layer.1.attention."
    for name in ("self.query", "self.key", "self.value", "output.dense"):
        layer = adapter.model.get_submodule(block + name)
        product = (layer.lora_B["default"].weight @ layer.lora_A["default"].weight).detach().requires_grad_()
        dense[name] = product

        def instead(module, inputs, output, product=product):
            return module.base_layer(inputs[0]) + inputs[0] @ product.T * module.scaling["default"]

        hooks.append(layer.register_forward_hook(instead))
    task, data = Classify(), examples("bert", 6, seed=4)
    task.outcomes(adapter.model, task.batch(data, np.arange(6)), None).losses.mean().backward()
    for hook in hooks:
        hook.remove()
    expected = []
    for head in range(4):
        own = slice(8 * head, 8 * head + 8)
        terms = [(dense[name] * dense[name].grad)[own].sum() for name in ("self.query", "self.key", "self.value")]
        terms.append((dense["output.dense"] * dense["output.dense"].grad)[:, own].sum())
        expected.append(abs(float(sum(terms).detach())))
    adapter.model.zero_grad(set_to_none=False)
    scoring = Scoring(build("importance", "lora-gradient", {}), pruner.units, None)
    _, found = gradient(adapter, "bert")
    scoring.look(adapter.theta, torch.from_numpy(found))
    group = pruner.units.groups[2]
    assert (group.layer, group.kind) == (1, "heads")
    shares = scoring.shares()[group.units]
    np.testing.assert_allclose(shares, np.array(expected) / sum(expected), rtol=1e-3)


def test_a_pruned_client_scores_what_it_holds():
    adapter, pruner = made("bert")
    mask = np.packbits(np.arange(pruner.units.count) % 2 == 0).tobytes()
    smaller = pruner.shrunk(mask)
    smaller.adapter.set(adapter.get()[smaller.places])
    scoring = Scoring(build("importance", "lora-gradient", {}), pruner.units, smaller.places)
    _, found = gradient(smaller.adapter, "bert")
    scoring.look(smaller.adapter.theta, torch.from_numpy(found))
    shares = scoring.shares()
    assert (shares[1::2] == 0).all()
    for group in pruner.units.groups:
        assert shares[group.units].sum() == pytest.approx(1, abs=1e-5)
