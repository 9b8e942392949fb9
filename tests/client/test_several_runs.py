"""One client that serves several runs: each finds what it left behind, and none what another did."""

from __future__ import annotations

import os

import numpy as np
import pytest
from agent_fleet import AgentFleet
from fake_fleet import FakeRun

from fedpeft.client import ClientStore
from fedpeft.client.store import OTHER_RUNS
from fedpeft.codecs.broadcast import quantise
from fedpeft.journal import EventKind

SIZE = 20


def vector(seed):
    return np.random.default_rng(seed).normal(size=SIZE).astype(np.float32)


@pytest.fixture
def store(tmp_path):
    return ClientStore(tmp_path / "c00", SIZE, run="own")


def keep(store, seed):
    store.keep_broadcast(3, quantise(vector(seed)), also=())
    store.keep_residual(3, vector(seed), also=())
    store.keep_memory(3, {"private": vector(seed)}, also=())


def test_rounds_of_the_same_number_are_told_apart_by_their_run(store):
    runs = ["own", "other", "../own"]
    for seed, run in enumerate(runs):
        keep(store.of(run), seed)
    for again in (store, ClientStore(store.folder, SIZE, run="own")):
        for seed, run in enumerate(runs):
            assert again.of(run).versions() == (3,)
            assert again.of(run).broadcast(3) == quantise(vector(seed))
            np.testing.assert_array_equal(again.of(run).residual(3), vector(seed))
            np.testing.assert_array_equal(again.of(run).memory(3)["private"], vector(seed))
        assert again.of("a third").residual(3) is None
        assert again.of("a third").memory(3) is None
        assert again.of("a third").versions() == ()


def test_the_run_of_the_device_s_own_run_file_finds_what_was_kept_before_there_were_others(store):
    assert store.of("own") is store
    keep(ClientStore(store.folder, SIZE), 7)
    np.testing.assert_array_equal(store.of("own").residual(3), vector(7))


def test_however_many_names_a_coordinator_makes_up_the_disk_holds_a_few_runs(store):
    keep(store, 0)
    for number in range(2 * OTHER_RUNS):
        keep(store.of(f"run {number}"), number)
        for place, folder in enumerate(sorted(store.folder.glob("run-*"), key=os.path.getmtime)):
            os.utime(folder, (place, place))  # their order stays, whatever the clock's resolution
    kept = [number for number in range(2 * OTHER_RUNS) if store.of(f"run {number}").residual(3) is not None]
    assert kept == list(range(OTHER_RUNS, 2 * OTHER_RUNS))
    assert len(list(store.folder.glob("run-*"))) == OTHER_RUNS
    assert store.residual(3) is not None


class Interrupted(Exception):
    pass


def run(name, journal, state, down, *, rounds=6, seed=1, until=None):
    """θ at the end, and whom the journal says to have lost something; interrupted after round `until`."""
    about = {"run": {"name": name, "rounds": rounds, "seed": seed}, "codec": {"up": "sign", "down": down}}
    one = FakeRun(AgentFleet(3, state, down=down), journal, **about, round={"ask": 3, "deadline_s": 10.0})
    commit = one.journal.commit

    def interrupt(number, *arguments, **more):
        commit(number, *arguments, **more)
        if number == until:
            raise Interrupted

    one.journal.commit = interrupt
    try:
        theta = one.run()
    except Interrupted:
        theta = None
    lost = [event for event in one.journal.events(EventKind.ACCEPTED) if event.payload.get("residual_lost")]
    refused = list(one.journal.events(EventKind.REFUSED))
    one.journal.close()
    return theta, lost + refused


@pytest.mark.parametrize("down", ["int8", "fp32"])
def test_a_run_that_another_one_interrupted_on_the_same_agents_ends_as_if_there_had_been_none(tmp_path, down):
    """Broadcasts of another run are found out by their digest; with the plain vector downwards there are none."""
    whole, _ = run("first", tmp_path / "whole", tmp_path / "undisturbed", down)
    run("first", tmp_path / "parts", tmp_path / "state", down, until=3)
    run("second", tmp_path / "second", tmp_path / "state", down, rounds=3, seed=2)
    theta, trouble = run("first", tmp_path / "parts", tmp_path / "state", down)
    assert trouble == []
    np.testing.assert_array_equal(theta, whole)
