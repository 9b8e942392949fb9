"""Which strategies pruned clients go with: said of the keys that the run file has, from the list of those that do."""

from __future__ import annotations

import pytest

from fedpeft.config import parse_config
from fedpeft.errors import ConfigError
from fedpeft.registry import BUILTIN, build
from fedpeft.simulation.pruning import FOLDS, check_pruned

BY_CLASS = {"devices": [{"name": "phone", "clients": 4, "pruning": 0.5}]}
BY_ARM = {"devices": [{"name": "phone", "clients": 4}], "scheduler": {"name": "ucb", "arms": {"pruning": [0.0, 0.5]}}}


def check(name, tables):
    table = {"run": {"name": "x", "rounds": 2}, "model": {"source": "m"}, "round": {"ask": 2}}
    check_pruned(
        parse_config(table | tables | {"strategy": {"name": name}}, origin="x.toml"), build("strategy", name, {})
    )


@pytest.mark.parametrize("name", BUILTIN["strategy"])
def test_the_list_has_every_strategy_of_ours_that_folds_what_pruned_clients_send(name):
    if name in FOLDS:
        check(name, BY_CLASS)
        return
    with pytest.raises(ConfigError) as caught:
        check(name, BY_CLASS)
    assert caught.value.allowed == f"{', '.join(FOLDS)}, or one with partial = True"


@pytest.mark.parametrize(("tables", "told"), [(BY_CLASS, "devices.pruning"), (BY_ARM, "scheduler.arms.pruning")])
def test_the_key_that_is_named_is_the_one_that_was_set(tables, told):
    with pytest.raises(ConfigError, match=rf'strategy\.name = "median" contradicts {told}: ') as caught:
        check("median", tables)
    assert caught.value.remedy == f"choose one of these, or remove {told}"
