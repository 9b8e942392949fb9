"""What `[engine]` of a run file asks for, and what it cannot have."""

from __future__ import annotations

import os
import sys

import pytest
from tiny import run_tiny
from tiny_text import write_run

from fedpeft import api
from fedpeft.config import load_run_file
from fedpeft.errors import ConfigError
from fedpeft.simulation.workers import choice, worker_count


def config(tmp_path, **engine):
    return load_run_file(write_run(tmp_path, engine=engine))


def test_one_worker_unless_more_are_asked_for(tmp_path):
    assert worker_count(config(tmp_path)) == 1
    assert worker_count(config(tmp_path, workers=3)) == 3


@pytest.mark.parametrize(("cores", "beside", "workers"), [(8, False, 8), (8, True, 7), (1, True, 1), (1, False, 1)])
def test_auto_is_a_worker_a_core_but_for_the_comparison_beside_the_run(tmp_path, monkeypatch, cores, beside, workers):
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(cores)), raising=False)
    path = write_run(tmp_path, engine={"workers": "auto"}, evaluation={"centralised": beside})
    assert worker_count(load_run_file(path)) == workers


@pytest.mark.parametrize(
    ("engine", "part"),
    [
        ({"workers": 0}, "engine.workers = 0"),
        ({"workers": "many"}, "engine.workers = 'many'"),
        ({"name": "spark"}, "engine.name = 'spark'"),
        ({"address": "auto"}, "engine.address = 'auto' contradicts engine.name"),
        ({"gpus_per_worker": 0.5}, "engine.gpus_per_worker = 0.5 contradicts"),
        ({"name": "ray", "gpus_per_worker": -1.0}, "engine.gpus_per_worker = -1.0"),
        ({"workers": 2, "threads": 2}, "engine.threads = 2 contradicts workers = 2"),
        ({"name": "ray", "threads": 2}, "engine.threads = 2 contradicts"),
    ],
    ids=str,
)
def test_what_cannot_be_asked_for(tmp_path, engine, part):
    with pytest.raises(ConfigError) as caught:
        config(tmp_path, **engine)
    assert part in caught.value.message
    assert caught.value.allowed
    assert caught.value.remedy


def test_the_plan_says_how_many_workers_there_are(tmp_path):
    assert "workers" not in api.validate(config(tmp_path)).trainer
    assert api.validate(config(tmp_path, workers=3)).trainer.endswith("; 3 workers")
    assert api.validate(config(tmp_path, name="ray")).trainer.endswith("; 1 worker on Ray")


def test_ones_own_objects_cannot_be_assembled_anew(tmp_path, monkeypatch):
    with pytest.raises(ConfigError) as caught:
        run_tiny(tmp_path / "ray", engine__name="ray")
    assert caught.value.code == "config.own-objects"
    assert 'engine.name = "ray"' in caught.value.message
    monkeypatch.setattr(choice, "can_fork", lambda: False)
    with pytest.raises(ConfigError) as caught:
        run_tiny(tmp_path / "spawn", engine__workers=2)
    assert caught.value.code == "config.own-objects"
    assert "engine.workers = 2" in caught.value.message


def test_without_ray_it_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ConfigError) as caught:
        api.run(config(tmp_path, name="ray"))
    assert caught.value.code == "config.no-ray"
    assert "fedpeft[ray]" in caught.value.remedy
