"""Pools of directions from the run file on: each one learns, parts are parts, and errors say which key."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
from quadratic import OPTIMUM, D, run_quadratic
from safetensors.torch import load_file
from tiny_text import write_run

from fedpeft import api
from fedpeft.config import load_run_file
from fedpeft.errors import ConfigError, PluginError
from fedpeft.simulation.federation import assemble
from fedpeft.simulation.plan import make_plan
from fedpeft.strategies import FedAvg

pytestmark = pytest.mark.slow

ZEROTH = {"zeroth__size": 256, "local__optimizer": "sgd"}


def federation(folder, **changes):
    return assemble(load_run_file(write_run(folder, **{**ZEROTH, **changes})))


@pytest.mark.parametrize(
    "table",
    [
        {"pool": "fresh", "refresh": 1},
        {"pool": "near-gaussian", "refresh": 5},
        {"pool": "gaussian", "refresh": 5},
        {"pool": "hadamard", "sparse": 0.5},  # θ_0 is all 0: all of it
    ],
    ids=lambda table: table["pool"],
)
def test_it_reaches_the_optimum(tmp_path, table):
    options = {f"zeroth__{key}": value for key, value in {"size": 64, "refresh": 5, **table}.items()}
    run_quadratic(tmp_path, FedAvg(), rounds=30, steps=40, local__learning_rate=0.02, **options)
    tensors = load_file(tmp_path / "quadratic" / "adapter" / "trained.safetensors")
    found = np.concatenate([tensors[name].numpy().reshape(-1) for name in sorted(tensors)])
    assert np.linalg.norm(found - OPTIMUM) < 0.25 * np.linalg.norm(OPTIMUM)


PARTS = {"zeroth__blocks": 4, "zeroth__sparse": 0.25, "local__learning_rate": 0.05, "local__steps": 20}


@pytest.mark.parametrize("trainer", ["sequential", "batched"])
def test_only_what_is_sparse_moves(tmp_path, trainer):
    """A whole run: every update is accepted, so all sides have the same bits; the rest is as it began."""
    own = federation(tmp_path, **PARTS, engine__trainer=trainer)
    result = api.run(load_run_file(tmp_path / "run.toml"))
    assert result.finished
    assert result.refused == ()
    mask = np.unpackbits(own.replica.pool.inner.mask, count=own.adapter.layout.size, bitorder="little").astype(bool)
    tensors = load_file(result.folder / "adapter" / "adapter_model.safetensors")
    names = {name.removeprefix("base_model.model."): values.numpy().reshape(-1) for name, values in tensors.items()}
    assert names.keys() == {tensor.name for tensor in own.adapter.layout.tensors}
    moved = 0
    for tensor in own.adapter.layout.tensors:
        place = slice(tensor.offset, tensor.offset + tensor.size)
        changed = names[tensor.name] != own.initial[place]
        assert not changed[~mask[place]].any()
        assert mask[place].all() == ("lora_B" in tensor.name)
        moved += changed.sum()
    assert moved > 0.9 * mask.sum()


def test_both_sides_must_mean_the_same_part(tmp_path):
    changes = [{}, {"blocks": 2}, {"blocks": 4}, {"sparse": 0.5}, {"sparse": 0.25}, {"blocks": 2, "sparse": 0.5}]
    digests = set()
    for change in changes:
        own = federation(tmp_path, **{f"zeroth__{key}": value for key, value in {"blocks": 1, **change}.items()})
        digests.add(own.sharing.shared.digest)
    assert len(digests) == len(changes)


def test_the_part_is_told_in_words(tmp_path):
    own = federation(tmp_path, zeroth__blocks=2, zeroth__sparse=0.5)
    mask = hashlib.sha256(own.replica.pool.inner.mask.tobytes()).hexdigest()
    assert own.replica.identity.endswith(f":sparse:{mask}:blocks:2")


def test_sums_of_larger_numbers_have_less_room(tmp_path):
    coordinates = federation(tmp_path, zeroth__pool="near-gaussian").replica.coordinates
    assert coordinates.largest == 8
    coordinates.check(np.full(256, 2.0**20 - 1, dtype=np.float32))
    with pytest.raises(ValueError, match="times 8, the largest number of a direction"):
        coordinates.check(np.full(256, 2.0**20, dtype=np.float32))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"zeroth__blocks": 4}, "a direction moves one of 4 blocks"),
        ({"zeroth__sparse": 0.25}, "only the 25 % of each tensor's weights that are smallest"),
        ({"zeroth__pool": "gaussian"}, "not portable"),
    ],
)
def test_a_person_is_told_before_the_run(tmp_path, changes, words):
    assert any(words in note for note in make_plan(federation(tmp_path, **changes)).notes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"zeroth__blocks": 3}, "zeroth.size = 256 does not divide into zeroth.blocks = 3"),
        ({"zeroth__blocks": 0}, "zeroth.blocks = 0"),
        ({"zeroth__sparse": 0.0}, "zeroth.sparse = 0.0"),
        ({"zeroth__sparse": 1.5}, "zeroth.sparse = 1.5"),
        (
            {"zeroth__blocks": 64},
            "zeroth.size = 256 and zeroth.blocks = 64 leave 4 directions to each block: size = 4 must be a power of",
        ),
        (
            {"zeroth__blocks": 32, "zeroth__pool": "independent"},
            "zeroth.size = 256 and zeroth.blocks = 32 leave 8 directions to each block: size = 8 must be a multiple of",
        ),
        ({"zeroth__size": 65537, "zeroth__pool": "fresh"}, "size = 65537 must be from 1 to 65536"),
        ({"zeroth__blocks": 2, "zeroth__pool": "hadmard"}, "hadmard.*is not known"),
    ],
)
def test_what_cannot_be_names_its_keys(tmp_path, changes, message):
    with pytest.raises((ConfigError, PluginError), match=message):
        api.run(load_run_file(write_run(tmp_path, **{**ZEROTH, **changes})))


def test_more_blocks_than_weights_can_fill(tmp_path):
    with pytest.raises(ConfigError, match=f"zeroth.blocks = 8 are too many for {D} trained weights") as caught:
        run_quadratic(tmp_path, FedAvg(), zeroth__size=64, zeroth__blocks=8)
    assert caught.value.allowed == "1 to 1: a block has at least 8 weights"
