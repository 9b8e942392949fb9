"""Components that nobody trains, from the run file to the adapter: FedEx, FLoRA and exact-mix put the rest there."""

from __future__ import annotations

import json

import numpy as np
import pytest
from tiny import Stop, run_tiny, stop_at
from tiny_text import gpt2_config, save_model, write_run

from fedpeft import api
from fedpeft.adapters.scalings import lora_scalings
from fedpeft.aggregation.lora import lora_layers
from fedpeft.config import load_run_file
from fedpeft.errors import ConfigError, FedpeftError
from fedpeft.journal import EventKind, Journal
from fedpeft.journal.snapshot import unpack
from fedpeft.simulation.federation import assemble

pytestmark = pytest.mark.slow

RULES = ["fedex", "flora", "exact-mix"]
RANKS = [{"name": "phone", "clients": 2}, {"name": "old", "clients": 2, "rank": 1}]
LINEAR = {"type": "lora", "rank": 2, "alpha": 4, "target_modules": ["query", "value"]}
EXACT = {"codec": {"up": "fp32", "down": "fp32"}, "round__ask": 3, "run__rounds": 3, "devices": RANKS}


def config(folder, rule, merged, **changes):
    changes = {"adapter": LINEAR | {"merged": merged}, "aggregation": {"rule": rule}, **changes}
    return load_run_file(write_run(folder, **changes))


def events(folder, kind):
    with Journal.read(folder) as journal:
        return list(journal.events(kind))


def theta(folder):
    with Journal.read(folder) as journal:
        return unpack(journal.blob(journal.last_commit().snapshot["adapter"]))[0]["theta"]


@pytest.mark.parametrize("merged", [14, 16])
@pytest.mark.parametrize("rule", RULES)
def test_with_room_for_everything_no_round_loses_anything(tmp_path, rule, merged):
    """Matrices of 16 × 16 hold no more than 2 + 14 components; what `fedex` and `flora` merge may need all 16."""
    found = config(tmp_path, rule, merged, **EXACT)
    result = api.run(found)
    for event in events(result.folder, EventKind.COMMITTED)[1:]:
        assert event.payload["mix_distance"] < 1e-5, event.payload
        assert event.payload["mix_discarded"] < 1e-5, event.payload
    federation = assemble(found)
    for layer in lora_layers(federation.adapter.layout, {}):
        pair = layer.read(theta(result.folder))
        assert pair.left[:, 2:].any(), "nothing was merged"
        if rule == "flora":
            assert not pair.left[:, :2].any()
            assert np.array_equal(pair.right[:2], layer.read(federation.initial).right[:2])


def test_layers_of_gpt2_hold_their_matrices_the_other_way_round(tmp_path):
    """`Conv1D` multiplies by W, not W^T; its factors are those of any layer."""
    from transformers import GPT2Model

    save_model(tmp_path / "model", GPT2Model(gpt2_config()), padding=True)
    adapter = {"adapter": {"rank": 2, "alpha": 4, "merged": 14, "target_modules": ["c_attn", "c_fc"]}}
    found = load_run_file(write_run(tmp_path, aggregation={"rule": "exact-mix"}, **EXACT, **adapter))
    result = api.run(found)
    assert {layer.b.shape[0] for layer in lora_layers(assemble(found).adapter.layout, {})} == {48, 64}
    for event in events(result.folder, EventKind.COMMITTED)[1:]:
        assert event.payload["mix_distance"] < 1e-5, event.payload


@pytest.mark.parametrize("rule", ["fedex", "flora"])
def test_what_does_not_fit_is_told(tmp_path, rule):
    result = api.run(config(tmp_path, rule, 1, **EXACT))
    lost = [event.payload["mix_discarded"] for event in events(result.folder, EventKind.COMMITTED)[1:]]
    assert all(0.001 < share < 1.5 for share in lost), lost


def test_clients_neither_train_nor_send_them_and_the_scaling_is_that_of_the_trained_rank(tmp_path):
    sizes, scalings = {}, {}
    for merged in (0, 6):
        found = config(tmp_path / str(merged), "exact-mix", merged, codec__up="fp32", local__weight_decay=0.1)
        result = api.run(found)
        sizes[merged] = {event.payload["bytes"] for event in events(result.folder, EventKind.ACCEPTED)}
        scalings[merged] = set(lora_scalings(assemble(found).adapter).values())
        saved = json.loads((result.folder / "adapter" / "adapter_config.json").read_text())
        assert (saved["r"], saved["lora_alpha"]) == (2 + merged, 4 + 2 * merged)
        assert not events(result.folder, EventKind.REFUSED)
    assert max(sizes[6]) - min(sizes[0]) < 20, "the updates are not as long as without"
    assert scalings[0] == scalings[6] == {2.0}


def test_the_plan_tells_what_is_trained_and_that_more_travels_down(tmp_path):
    plans = [api.validate(config(tmp_path / str(n), "exact-mix", n, codec__up="fp32")) for n in (0, 6)]
    assert plans[0].trainable_parameters == plans[1].trainable_parameters
    assert plans[0].update_bytes == plans[1].update_bytes
    assert plans[1].broadcast_bytes > 2 * plans[0].broadcast_bytes
    assert any("6 components more that clients use and nobody trains" in note for note in plans[1].notes)


@pytest.mark.parametrize("rule", RULES)
def test_killed_and_resumed_or_with_two_workers_it_is_the_same(tmp_path, rule):
    changes = {"devices": RANKS, "round__ask": 3, "run__rounds": 3, "evaluation__personalised_steps": 1}
    whole = api.run(config(tmp_path / "whole", rule, 3, **changes))
    parts = config(tmp_path / "parts", rule, 3, **changes)
    with pytest.raises(Stop):
        api.run(parts, observers=[stop_at(EventKind.ACCEPTED, 5)])
    assert api.resume(parts.folder).adapter_hash == whole.adapter_hash
    workers = api.run(config(tmp_path / "workers", rule, 3, **changes, engine__workers=2))
    assert workers.adapter_hash == whole.adapter_hash


@pytest.mark.parametrize("trainer", ["batched", "sequential"])
def test_what_is_merged_goes_on_counting(tmp_path, trainer):
    """FLoRA's trained pair is empty after every round: all that was learnt is in what nobody trains."""
    changes = {"run__rounds": 8, "engine__trainer": trainer, "local__learning_rate": 0.01, "local__steps": 6}
    result = api.run(config(tmp_path, "flora", 14, **changes, adapter=LINEAR | {"merged": 14, "alpha": 16}))
    seen = [event.payload["loss"] for event in events(result.folder, EventKind.EVALUATED)]
    assert seen[-1] < 0.5 * seen[0], seen


@pytest.mark.parametrize(
    ("rule", "adapter", "changes", "says"),
    [
        ("fedex", {"merged": 0}, {}, "what it merges goes into components that nobody trains"),
        ("hetlora", {"merged": 2}, {}, "it has no use for them"),
        (None, {"merged": 2}, {}, "no aggregation.rule that would put anything there"),
        ("fedex", {"merged": 2, "type": "dora"}, {}, 'contradicts adapter.type = "dora"'),
        ("fedex", {"merged": 2, "rank_pattern": {"query": 1}}, {}, "contradicts adapter.rank_pattern"),
        ("fedex", {"merged": 99}, {}, "adapter.merged = 99 does not fit"),
        ("fedex", {"merged": -1}, {}, "adapter.merged"),
        ("flora", {"merged": 2}, {"strategy": {"name": "fedadam"}}, "steps in its own way"),
        ("flora", {"merged": 2}, {"strategy": {"name": "rolora"}}, "freezes tensors in turns"),
    ],
)
def test_what_does_not_go_together_is_refused_by_name(tmp_path, rule, adapter, changes, says):
    changes |= {"adapter": LINEAR | adapter}
    if rule is not None:
        changes |= {"aggregation": {"rule": rule}}
    with pytest.raises(FedpeftError) as error:
        api.validate(load_run_file(write_run(tmp_path, **changes)))
    assert says in str(error.value), error.value


def test_an_adapter_of_ones_own_has_all_its_components(tmp_path):
    with pytest.raises(ConfigError, match=r"adapter\.merged"):
        run_tiny(tmp_path, adapter__merged=2, aggregation__rule="fedex")
