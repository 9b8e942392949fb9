"""One seed, one adapter: on every engine, and after its processes were killed.

`ray` is in `tests/system/test_ray.py`; `flwr run .` in `tests/system/test_flwr_run.py`.
"""

from __future__ import annotations

import pytest
from engine_run import alive_after, start
from tiny_text import write_run

from fedpeft import api
from fedpeft.config import load_run_file
from fedpeft.journal import EventKind, Journal

pytestmark = [pytest.mark.slow, pytest.mark.system, pytest.mark.timeout(900)]

GONE_S = 90.0
"""Seconds in which the processes of a run that was killed must be gone: ours take 5, some of Ray's up to a minute."""


@pytest.fixture(scope="module")
def run_file(tmp_path_factory):
    changes = {"run__rounds": 3, "devices": [{"name": "phone", "clients": 3}], "evaluation__clients": False}
    return write_run(tmp_path_factory.mktemp("run"), **changes)


@pytest.fixture(scope="module")
def expected(run_file):
    return api.run(load_run_file(run_file, {"run.name": "local"})).adapter_hash


def killed(run_file, engine, name, *more):
    """Run until the coordinator is killed; nothing that it started is left."""
    (told,), code = start(run_file, engine, name, *more)
    assert code == -9
    assert len(told["processes"]) >= 2
    assert alive_after(told["processes"], GONE_S) == []


def test_flower_killed_and_resumed_ends_in_the_same_adapter_as_one_process(run_file, expected):
    killed(run_file, "flower", "flower", "--kill", "committed:3")  # round 2, after rounds 0 and 1
    told, _ = start(run_file, "flower", "flower", "--resume")
    assert told == [{"adapter": expected}]


def test_a_scheduler_that_learns_nothing_picks_the_same_arms_on_flower(tmp_path):
    """Ranks, codecs and steps of each client come from the seed; what is learned from seconds is of the clock."""
    scheduler = {"name": "random", "arms": {"rank": [1, 2], "codec": ["int4", "fp16"], "steps": [1, 2]}}
    path = write_run(tmp_path, scheduler=scheduler, run__rounds=3, evaluation__clients=False)
    expected = api.run(load_run_file(path, {"run.name": "local"})).adapter_hash
    told, _ = start(path, "flower", "flower")
    assert told == [{"adapter": expected}]


def test_a_codec_searches_on_the_same_examples_and_chooses_the_same_on_superlink(tmp_path):
    path = write_run(tmp_path, codec={"up": "compeft", "validation": 0.2}, run__rounds=2, evaluation__clients=False)
    expected = api.run(load_run_file(path, {"run.name": "local"})).adapter_hash
    told, _ = start(path, "superlink", "superlink")
    assert told == [{"adapter": expected}]


def test_directions_drawn_by_importance_are_those_of_one_process_on_flower_too(tmp_path):
    """With bounds on the scalars of each round; one epoch, so that importances matter from the second round on."""
    changes = {"zeroth__size": 256, "zeroth__sampling": "importance", "zeroth__deviations": 3.0}
    path = write_run(tmp_path, **changes, run__rounds=3, local__optimizer="sgd", evaluation__clients=False)
    expected = api.run(load_run_file(path, {"run.name": "local"})).adapter_hash
    told, _ = start(path, "flower", "flower")
    assert told == [{"adapter": expected}]


def test_superlink_killed_in_every_part_ends_in_the_same_adapter_as_one_process(run_file, expected):
    """First the SuperLink is killed, which ends the run with its name; then, on resume, the coordinator."""
    (lost, ended), _ = start(
        run_file, "superlink", "superlink", "--kill", "round_opened:2", "--victim", "flower-superlink"
    )
    assert ended["error"] == "engine.process"
    assert "the SuperLink ended with exit code -9" in ended["message"]
    assert alive_after(lost["processes"], GONE_S) == []
    killed(run_file, "superlink", "superlink", "--resume", "--kill", "committed:1")  # round 2
    told, _ = start(run_file, "superlink", "superlink", "--resume")
    assert told == [{"adapter": expected}]


@pytest.mark.parametrize("engine", ["ray", "flower", "superlink"])
def test_codecs_both_ways_and_of_a_class_killed_and_resumed_end_in_the_same_adapter(tmp_path, engine):
    """Steps downwards, owed by the coordinator; signs upwards, owed by each client; both live on after the kill."""
    devices = [{"name": "phone", "clients": 2}, {"name": "watch", "clients": 1, "codec": "topk(0.5)+sign"}]
    codecs = {"codec__up": "int4(dither)", "codec__down": "sign"}
    path = write_run(tmp_path, run__rounds=4, devices=devices, evaluation__clients=False, **codecs)
    expected = api.run(load_run_file(path, {"run.name": "local"})).adapter_hash
    killed(path, engine, engine, "--kill", "committed:3")  # round 2, after rounds 0 and 1
    told, _ = start(path, engine, engine, "--resume")
    assert told == [{"adapter": expected}]


ZEROTH = {
    "run__rounds": 3,
    "devices": [{"name": "phone", "clients": 3}],
    "evaluation__clients": False,
    "local__optimizer": "sgd",
    "zeroth__size": 256,
    "zeroth__refresh": 2,
    "zeroth__blocks": 2,
    "zeroth__sparse": 0.5,  # both sides must choose the same weights
}


@pytest.fixture(scope="module")
def zeroth_file(tmp_path_factory):
    often = {"run__rounds": 5, "zeroth__refresh": 1, "zeroth__checkpoint": 1000.0}  # to who missed an epoch
    return write_run(tmp_path_factory.mktemp("zeroth"), **{**ZEROTH, **often})


@pytest.mark.parametrize("engine", ["ray", "flower", "superlink"])
def test_a_zeroth_order_run_rebuilds_the_same_model_on_every_engine(zeroth_file, engine):
    """All clients prove it too: an update counts only with the fingerprint of the model that it started from."""
    expected = api.run(load_run_file(zeroth_file, {"run.name": f"local-{engine}"})).adapter_hash
    told, _ = start(zeroth_file, engine, engine)
    assert told == [{"adapter": expected}]
    with Journal.read(load_run_file(zeroth_file).folder.with_name(engine)) as journal:
        assert "checkpoint" in {event.payload["form"] for event in journal.events(EventKind.ASKED)}


@pytest.mark.parametrize("engine", ["ray", "flower", "superlink"])
def test_a_run_without_gradients_by_deltas_ends_in_the_same_adapter_on_every_engine(tmp_path, engine):
    changes = {"zeroth__sends": "delta", "local__optimizer": "zo-adam"}
    path = write_run(tmp_path, **{**ZEROTH, **changes})
    expected = api.run(load_run_file(path, {"run.name": "local"})).adapter_hash
    told, _ = start(path, engine, engine)
    assert told == [{"adapter": expected}]


def tuned(folder):
    """What each client told of the adapter after steps of its own."""
    with Journal.read(folder) as journal:
        events = list(journal.events(EventKind.CLIENT_TUNED))
    return {event.client: (event.payload["accuracy"], event.payload["loss"]) for event in events}


@pytest.mark.parametrize("engine", ["flower", "superlink"])
def test_clients_judge_what_they_have_tuned_for_themselves_alike_on_every_engine(tmp_path, engine):
    more = {"run__rounds": 1, "devices": [{"name": "phone", "clients": 3}], "evaluation__personalised_steps": 2}
    path = write_run(tmp_path, **more)
    local = api.run(load_run_file(path, {"run.name": "local"}))
    told, _ = start(path, engine, engine)
    assert told == [{"adapter": local.adapter_hash}]
    assert len(tuned(local.folder)) == 3
    assert tuned(local.folder.parent / engine) == tuned(local.folder)


@pytest.mark.parametrize("engine", ["ray", "superlink"])
def test_clients_that_are_pruned_end_in_the_same_adapter_on_every_engine(tmp_path, engine):
    """Both sides must find the same heads and channels, and cut them alike; masks follow scores from the clients."""
    more = {
        "run__rounds": 3,
        "devices": [{"name": "whole", "clients": 1}, {"name": "half", "clients": 2, "pruning": 0.5}],
        "adapter__target_modules": "all-linear",
        "pruning": {"every": 1},
        "evaluation__clients": False,
    }
    path = write_run(tmp_path, **more)
    expected = api.run(load_run_file(path, {"run.name": "local"})).adapter_hash
    told, _ = start(path, engine, engine)
    assert told == [{"adapter": expected}]
