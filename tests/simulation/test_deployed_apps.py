"""`server/app.py` and `client/app.py`, as Flower loads them, run against each other on the machine's own clock."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
from tiny_text import write_run

import fedpeft
from fedpeft import api
from fedpeft.config import load_run_file
from fedpeft.errors import ConfigError
from fedpeft.flower import LocalGrid, run_server_app
from fedpeft.journal import EventKind, Journal
from fedpeft.simulation import deployed
from fedpeft.simulation.arm_costs import oracle_arms
from fedpeft.simulation.deployed import SystemClock, agent_for
from fedpeft.simulation.federation import assemble
from fedpeft.types import NodeId

ROOT = Path(fedpeft.__file__).parents[1]
CHANGES = {"run__rounds": 3, "codec__up": "int8", "evaluation__clients": True, "round__deadline_s": 60.0}


@pytest.fixture(autouse=True)
def _one_agent_a_test(monkeypatch):
    monkeypatch.setattr(deployed, "POLL_S", 0.01)
    deployed._agent.cache_clear()


def load_app(folder):
    """What Flower does with the entry `app:app` of a folder."""
    spec = importlib.util.spec_from_file_location(f"{folder}_app", ROOT / folder / "app.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.app


def deploy(run_file, state, clients=3):
    """One coordinator and a node for each client, over an in-process Grid."""
    nodes = {NodeId(100 + k): {"client": f"c{k:02d}", "state": str(state)} for k in range(clients)}
    told = {"run-file": str(run_file)}
    grid = LocalGrid(load_app("client"), nodes, clock=SystemClock(), through_wire=True, run_config=told)
    run_server_app(load_app("server"), grid, told)
    return grid


@pytest.mark.slow
def test_deployed_and_simulated_end_in_the_same_adapter(tmp_path):
    simulated = api.run(load_run_file(write_run(tmp_path / "simulated", **CHANGES)))
    run_file = write_run(tmp_path / "deployed", **CHANGES)
    grid = deploy(run_file, tmp_path / "state")
    folder = load_run_file(run_file).folder
    with Journal.read(folder) as journal:
        assert journal.last_commit().adapter == simulated.adapter_hash
        assert [e.round for e in journal.events(EventKind.COMMITTED)] == [0, 1, 2, 3]
        assert len(list(journal.events(EventKind.CLIENT_EVALUATED))) == 6
        assert list(journal.events(EventKind.RUN_FINISHED))
        up = sum(e.payload["wire_up"] for e in journal.events(EventKind.COMMITTED))
    assert 0 < up <= grid.traffic.bytes["train.up"]
    assert (folder / "adapter" / "adapter_config.json").is_file()
    assert sorted(path.name for path in (tmp_path / "state" / "colours").iterdir()) == ["c00", "c01", "c02"]


OWN = """
import torch

from fedpeft.codecs.fp16 import Fp16


class Mine(Fp16):
    name = "mine"


def slow(thetas, plan):
    return torch.optim.SGD(list(thetas), lr=plan.learning_rate / 2)
"""


@pytest.mark.slow
def test_plug_ins_in_files_need_not_lie_at_the_same_path_on_both_sides(tmp_path):
    named = {"codec__up": "own.py:Mine", "codec__auxiliary": "own.py:Mine", "local__optimizer": "own.py:slow"}
    files = {}
    for side in ("operator", "device"):
        files[side] = write_run(tmp_path / side, **{**CHANGES, **named, "run__rounds": 2, "strategy__name": "scaffold"})
        (tmp_path / side / "own.py").write_text(OWN)
    told = {"run-file": str(files["operator"])}
    nodes = {
        NodeId(100 + k): {"client": f"c{k:02d}", "state": str(tmp_path / "state"), "run-file": str(files["device"])}
        for k in range(3)
    }
    grid = LocalGrid(load_app("client"), nodes, clock=SystemClock(), through_wire=True, run_config=told)
    run_server_app(load_app("server"), grid, told)
    with Journal.read(load_run_file(files["operator"]).folder) as journal:
        assert [event.payload["reason"] for event in journal.events(EventKind.REFUSED)] == []
        assert journal.last_commit().round == 2


@pytest.mark.slow
def test_a_stopped_coordinator_goes_on_when_it_is_started_again(tmp_path, monkeypatch):
    whole = api.run(load_run_file(write_run(tmp_path / "whole", **CHANGES)))
    run_file = write_run(tmp_path / "parts", **CHANGES)
    commit = Journal.commit

    def stopped(self, round, *arguments, **payload):
        done = commit(self, round, *arguments, **payload)
        if round == 2:
            raise KeyboardInterrupt
        return done

    with monkeypatch.context() as patch:
        patch.setattr(Journal, "commit", stopped)
        with pytest.raises(KeyboardInterrupt):
            deploy(run_file, tmp_path / "state")
    deploy(run_file, tmp_path / "state")
    with Journal.read(load_run_file(run_file).folder) as journal:
        assert journal.last_commit().adapter == whole.adapter_hash
        assert [e.payload["resumed"] for e in journal.events(EventKind.RUN_STARTED)] == [False, True]


@pytest.mark.slow
def test_a_new_run_of_the_same_name_on_devices_that_remember_an_old_one(tmp_path):
    """What lies on the devices' disks under the same versions is another adapter: it must not be taken for this one."""
    deploy(write_run(tmp_path / "old", run__seed=8, **CHANGES), tmp_path / "state")
    deployed._agent.cache_clear()
    run_file = write_run(tmp_path / "new", **CHANGES)
    deploy(run_file, tmp_path / "state")
    expected = api.run(load_run_file(write_run(tmp_path / "clean", **CHANGES)))
    with Journal.read(load_run_file(run_file).folder) as journal:
        assert journal.last_commit().adapter == expected.adapter_hash


def test_a_run_is_not_gone_on_with_under_another_run_file(tmp_path):
    run_file = write_run(tmp_path, **CHANGES)
    config = load_run_file(run_file)
    Journal.create(config.folder, run="colours", config_toml=config.to_toml()).close()
    write_run(tmp_path, **CHANGES, local__learning_rate=0.5)
    with pytest.raises(ConfigError, match="another run file") as caught:
        deploy(run_file, tmp_path / "state")
    assert caught.value.code == "config.other-run-file"


def test_an_oracle_is_refused_before_anything_is_done_though_the_run_file_simulates(tmp_path):
    """`engine.name` says where a simulation trains; whoever deploys the file has devices that nobody timed."""
    run_file = write_run(tmp_path, scheduler={"name": "oracle"}, **CHANGES)
    with pytest.raises(ConfigError, match="real clock") as caught:
        deploy(run_file, tmp_path / "state")
    assert caught.value.code == "config.scheduler-times"
    assert not load_run_file(run_file).folder.exists()


def test_a_deployed_scheduler_is_told_no_times_of_devices_that_are_imagined(tmp_path, monkeypatch):
    given = []
    monkeypatch.setattr(deployed, "perform", lambda federation, journal, engine: given.append(federation))
    arms = {"steps": [1, 2]}
    run_file = write_run(tmp_path, scheduler={"name": "random", "arms": arms}, **CHANGES)
    deployed.serve(None, {"run-file": str(run_file)})
    assert given[0].scheduling.times is None
    assert oracle_arms(given[0]) == {}
    assert oracle_arms(assemble(load_run_file(run_file))), "simulated, its times are those of the time model"


def test_no_run_file_is_a_named_error():
    grid = LocalGrid(load_app("client"), {}, clock=SystemClock())
    with pytest.raises(ConfigError) as caught:
        run_server_app(load_app("server"), grid, {})
    assert caught.value.code == "config.no-run-file"
    assert "--run-config" in caught.value.remedy


def test_a_node_that_names_no_client_of_the_run_is_refused(tmp_path):
    run_file = str(write_run(tmp_path))
    for node in ({}, {"client": "c77"}):
        with pytest.raises(ConfigError, match="is not a client of this run") as caught:
            agent_for({**node, "state": str(tmp_path / "state")}, {"run-file": run_file})
        assert "c00" in caught.value.allowed
    agent, client = agent_for({"client": "c01", "run-file": run_file, "state": str(tmp_path / "state")}, {})
    assert client == "c01"
    assert agent_for({"client": "c00", "state": str(tmp_path / "state")}, {"run-file": run_file})[0] is agent


def test_the_virtual_nodes_of_a_flower_simulation_stand_for_the_clients_in_order(tmp_path):
    told = {"run-file": str(write_run(tmp_path))}
    state = str(tmp_path / "state")
    clients = [agent_for({"partition-id": k, "num-partitions": 3, "state": state}, told)[1] for k in range(3)]
    assert clients == ["c00", "c01", "c02"]
    with pytest.raises(ConfigError, match="is not a client of this run"):
        agent_for({"partition-id": 3, "num-partitions": 4, "state": state}, told)


def test_the_system_clock_is_monotonic():
    clock = SystemClock()
    before = clock.now()
    clock.sleep(0.01)
    assert clock.now() >= before + 0.01
