"""Devices of their own rank and their own pruned model in one federation, mixed exactly."""

from __future__ import annotations

import contextlib

import pytest
from tiny import Stop, stop_at
from tiny_text import write_run

from fedpeft import api
from fedpeft.config import load_run_file
from fedpeft.errors import ConfigError
from fedpeft.journal import EventKind, Journal

pytestmark = pytest.mark.slow

CHANGES = {
    "devices": [
        {"name": "whole", "clients": 2},
        {"name": "half", "clients": 1, "pruning": 0.5},
        {"name": "small", "clients": 1, "pruning": 0.5, "rank": 2},
    ],
    "adapter__rank": 4,
    "adapter__target_modules": "all-linear",
    "run__rounds": 3,
    "round__ask": 4,
    "local__steps": 3,
    "pruning": {"start": 2, "every": 2},
    "evaluation__clients": False,
}


@pytest.fixture(scope="module")
def run_file(tmp_path_factory):
    return write_run(tmp_path_factory.mktemp("pruned_mixing"), **CHANGES)


def run_with(run_file, name, **changes):
    return api.run(load_run_file(run_file, {"run.name": name, **changes}))


def losses(found):
    with Journal.read(found.folder) as journal:
        committed = [event.payload for event in journal.events(EventKind.COMMITTED) if event.round]
    return [(payload["mix_distance"], payload["mix_discarded"]) for payload in committed]


def test_it_is_the_default_and_nothing_is_lost_that_the_residual_holds(run_file):
    found = run_with(run_file, "default")
    assert load_run_file(found.folder / "run.toml").aggregation.rule == "exact-mix"
    assert len(losses(found)) == 3
    kept = run_with(run_file, "kept", **{"aggregation.rule": "exact-mix", "aggregation.residual_rank": 64})
    assert all(discarded < 1e-5 for _, discarded in losses(kept))
    padded = run_with(run_file, "padded", **{"aggregation.rule": "fedit"})
    assert all(exact[0] < plain[0] for exact, plain in zip(losses(kept), losses(padded), strict=True))


def test_stopped_and_resumed_with_two_workers_it_ends_in_the_same_adapter(run_file):
    whole = run_with(run_file, "whole")
    config = load_run_file(run_file, {"run.name": "stopped", "engine.workers": 2})
    with contextlib.suppress(Stop):
        api.run(config, observers=[stop_at(EventKind.COMMITTED, 3)])  # the first is that of round 0
    assert api.resume(config.folder).adapter_hash == whole.adapter_hash


def test_what_a_mask_leaves_out_does_not_count(run_file, monkeypatch):
    """Were all rows taken for held, the shared factor's step would move rows that the client never saw."""
    found = run_with(run_file, "held")
    monkeypatch.setattr("fedpeft.server.mixing.Mixing._held", lambda *of: (None, None))
    blind = run_with(run_file, "blind")
    assert blind.adapter_hash != found.adapter_hash


@pytest.mark.parametrize("rule", ["flexlora", "hetlora"])
def test_a_rule_of_whole_factors_is_refused(run_file, rule):
    with pytest.raises(ConfigError, match="contradicts pruned clients") as caught:
        run_with(run_file, rule, **{"aggregation.rule": rule})
    assert "exact-mix, fedit" in str(caught.value.allowed)
