"""`[engine]`: what contradicts an engine is refused by name before anything is loaded."""

from __future__ import annotations

import pytest
from tiny import run_tiny
from tiny_text import write_run

from fedpeft.config import load_run_file
from fedpeft.errors import ConfigError

WRONG = {
    "stock nodes elsewhere": ({"engine.nodes": "stock"}, "nodes = 'stock' contradicts", "superlink"),
    "a cluster elsewhere": ({"engine.name": "superlink", "engine.address": "auto"}, "which has no cluster", "ray"),
    "GPUs of Ray elsewhere": ({"engine.gpus_per_worker": 0.5}, "which has no cluster", "ray"),
    "threads of a worker": ({"engine.name": "flower", "engine.threads": 2}, "computes with one thread", "threads = 1"),
    "an unknown engine": ({"engine.name": "cloud"}, "cloud", "superlink"),
}


@pytest.fixture(scope="module")
def run_file(tmp_path_factory):
    return write_run(tmp_path_factory.mktemp("run"))


@pytest.mark.parametrize("case", WRONG)
def test_a_key_of_another_engine_is_refused(run_file, case):
    options, words, remedy = WRONG[case]
    with pytest.raises(ConfigError) as caught:
        load_run_file(run_file, options)
    assert words in caught.value.render()
    assert remedy in caught.value.render()


@pytest.mark.parametrize("engine", ["flower", "superlink"])
def test_faults_are_rehearsed_on_the_virtual_clock_only(run_file, engine):
    options = {"engine.name": engine, "faults": [{"kind": "drop", "client": "c00", "rounds": [1]}]}
    with pytest.raises(ConfigError, match="faults") as caught:
        load_run_file(run_file, options)
    assert "virtual clock" in caught.value.render()


@pytest.mark.parametrize("engine", ["flower", "superlink"])
def test_python_objects_cannot_leave_this_process(tmp_path, engine):
    with pytest.raises(ConfigError, match="made of Python objects") as caught:
        run_tiny(tmp_path, engine__name=engine)
    assert caught.value.code == "config.own-objects"


def test_more_stock_supernodes_than_a_machine_should_hold_are_refused(tmp_path):
    from fedpeft import api

    run_file = write_run(
        tmp_path, devices=[{"name": "phone", "clients": 17}], engine={"name": "superlink", "nodes": "stock"}
    )
    with pytest.raises(ConfigError, match="17 clients") as caught:
        api.run(load_run_file(run_file))
    assert caught.value.code == "config.too-many-nodes"
    assert not (tmp_path / "runs" / "colours" / "superlink").exists(), "nothing was started"
