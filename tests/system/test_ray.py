"""The same run on two Ray nodes: the same adapter, also when one of the nodes is lost."""

from __future__ import annotations

import os
import time

import pytest
from engine_run import alive_after, descendants
from tiny_text import write_run

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # read when Ray is imported
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")  # loopback only, as `on_ray` does for its own cluster

ray = pytest.importorskip("ray")

from ray.cluster_utils import Cluster  # noqa: E402 - after Ray's settings

from fedpeft import api  # noqa: E402
from fedpeft.config import load_run_file  # noqa: E402
from fedpeft.errors import ConfigError  # noqa: E402
from fedpeft.journal import EventKind, Journal  # noqa: E402

# Ray leaves sockets and subprocesses to the collector.
pytestmark = [pytest.mark.system, pytest.mark.filterwarnings("ignore::ResourceWarning")]

STORE = {"object_store_memory": 100_000_000}


@pytest.fixture(scope="module")
def run_file(tmp_path_factory):
    changes = {"devices": [{"name": "phone", "clients": 6}], "round": {"ask": 6}, "run__rounds": 4}
    return write_run(tmp_path_factory.mktemp("run"), **changes)


@pytest.fixture(scope="module")
def expected(run_file):
    return run(run_file, "local").adapter_hash


@pytest.fixture
def cluster():
    nodes = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False, **STORE})
    other = nodes.add_node(num_cpus=1, **STORE)
    nodes.wait_for_nodes()
    yield nodes, other
    if ray.is_initialized():
        ray.shutdown()
    nodes.shutdown()


def run(run_file, name, observers=(), **engine):
    config = load_run_file(run_file, {"run.name": name, **{key.replace("__", "."): v for key, v in engine.items()}})
    return api.run(config, observers=observers)


def troubles(result):
    with Journal.read(result.folder) as journal:
        return [event.payload["reason"] for event in journal.events(EventKind.FAILED)]


def wait_for_actors(count, seconds=120.0):
    """Until so many actors of this run are built."""
    job, end = ray.get_runtime_context().get_job_id(), time.monotonic() + seconds
    while time.monotonic() < end:
        states = [one["State"] for one in ray._private.state.actors(job_id=ray.JobID.from_hex(job)).values()]
        if states.count("ALIVE") == count:
            return
        time.sleep(0.1)
    raise AssertionError(f"actors after {seconds} s: {states}")


def test_two_nodes_end_with_the_same_adapter_also_when_one_is_lost(run_file, expected, cluster):
    nodes, other = cluster
    options = {"engine__name": "ray", "engine__workers": 2, "engine__address": nodes.address}
    assert run(run_file, "two-nodes", **options).adapter_hash == expected
    assert not ray.is_initialized(), "what the run connected it lets go"

    def lose_a_node(event):
        if event.kind is EventKind.ROUND_OPENED and event.round == 1:
            wait_for_actors(2)  # else the first does all the work, and nobody hears of the other
        if event.kind is EventKind.ROUND_OPENED and event.round == 2:
            own = [one for _, process in other.live_processes() for one in descendants(process.pid)]
            nodes.remove_node(other, allow_graceful=False)
            assert alive_after(own, 60.0) == []  # its actor too: on a busy machine it may work on for a while

    result = run(run_file, "one-lost", [lose_a_node], **options)
    assert result.adapter_hash == expected
    told = troubles(result)
    assert told
    assert all("is gone" in reason for reason in told)


def test_a_cluster_of_somebody_else_is_left_alone(run_file, expected, cluster, monkeypatch):
    nodes, _ = cluster
    monkeypatch.setenv("RAY_ADDRESS", nodes.address)
    assert run(run_file, "beside", engine__name="ray", engine__workers=1).adapter_hash == expected


def test_a_cluster_of_its_own_is_started_on_loopback_and_ended(run_file, expected):
    addresses = []

    def look(event):
        if event.kind is EventKind.ROUND_OPENED:
            addresses.extend(node["NodeManagerAddress"] for node in ray.nodes())

    assert run(run_file, "own", [look], engine__name="ray").adapter_hash == expected
    assert set(addresses) == {"127.0.0.1"}
    assert not ray.is_initialized()


def test_an_address_without_a_cluster_is_one_clear_error(run_file):
    with pytest.raises(ConfigError) as caught:
        run(run_file, "nowhere", engine__name="ray", engine__address="127.0.0.1:1")
    assert caught.value.code == "config.no-cluster"
    assert "127.0.0.1:1" in caught.value.message
