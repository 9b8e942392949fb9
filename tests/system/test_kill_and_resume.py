"""`kill -9` anywhere, then resume: the same adapter, bit by bit, as if nothing had happened.

The federation keeps state on both sides: FedAdam's moments on the server; on the clients' disks the versioned
broadcasts and the int8 codec's residuals. Faults are rehearsed, so that every kind of event happens in it.
"""

from __future__ import annotations

import random
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
import tiny

from fedpeft.journal import EventKind, Journal, RunState, list_runs
from fedpeft.strategies import FedAdam

pytestmark = pytest.mark.system

ROUNDS = 4
FAULTS = [
    {"client": "c01", "rounds": [2], "kind": "crash"},
    {"client": "c03", "rounds": [1, 3], "kind": "corrupt"},
    {"client": "c04", "rounds": [2], "kind": "nan"},
    {"client": "c02", "rounds": [1], "kind": "slow", "factor": 2.0},
]


def options(**more):
    """Three of five must answer, and some cannot: rounds 1 to 3 need more than one attempt."""
    return {
        "strategy": FedAdam(learning_rate=0.01),
        "faults": FAULTS,
        "rounds": ROUNDS,
        "round__min_replies": 3,
        "round__attempts": 50,
        "codec__up": "int8",
        "codec__down": "int8",
        "evaluation__centralised": True,
        **more,
    }


def run(folder, **more):
    """Run to the end, or to a kill; the exit code."""
    process = tiny.start_tiny(folder, **options(**more))
    process.join(120)
    assert process.exitcode is not None, "the run hangs"
    return process.exitcode


def story(folder):
    """All that must be the same: each round's adapter, and whose updates are in it with which weight and norm.

    Reading it also proves the journal sound: it is opened for writing, which checks every page and reference.
    """
    with Journal.open(folder / "tiny") as journal:
        events = list(journal.events())
    assert [event.seq for event in events] == list(range(1, len(events) + 1))
    told = {}
    for event in events:
        if event.kind is EventKind.COMMITTED:
            assert event.round not in told, "a round is committed once"
            accepted = [
                (e.client, e.payload["weight"], e.payload["norm"])
                for e in events
                if e.kind is EventKind.ACCEPTED and (e.round, e.attempt) == (event.round, event.attempt)
            ]
            assert len({client for client, *_ in accepted}) == len(accepted) == event.payload["accepted"]
            told[event.round] = (event.payload["adapter"], sorted(accepted))
    return told


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    folder = tmp_path_factory.mktemp("reference")
    assert run(folder) == 0
    return folder


# Every kind that a run records, at its first event; the busy ones in the middle of the run too.
KILLS = [
    "run_started:1",
    "hello:1",
    "hello:3",
    "evaluated:1",
    "evaluated:2",
    f"evaluated:{ROUNDS + 1}",  # the last one on the test set
    f"evaluated:{ROUNDS + 2}",  # the centralised comparison
    "client_evaluated:1",
    "client_evaluated:3",
    "client_evaluated:7",  # after the last round
    "clients_evaluated:1",
    "clients_evaluated:2",
    "round_opened:1",
    "asked:1",
    "asked:8",
    "accepted:1",
    "accepted:3",
    "accepted:7",
    "refused:1",
    "failed:1",
    "round_short:1",
    "committed:1",
    "committed:3",
    f"committed:{ROUNDS + 1}",
    "exported:1",
    "run_finished:1",
]
NEEDS_A_DEADLINE = {"abandoned", "late"}  # see test_a_run_with_stragglers_...
ASKED_FOR_BY_THE_RUN_FILE = {"client_tuned", "stopped"}  # see tests/simulation/test_run_evaluation.py
OF_A_SCHEDULER = {"arm_chosen", "arm_rewarded", "sat_out"}  # see tests/simulation/test_scheduled_run.py
OF_PRUNED_CLIENTS = {"mask_made"}  # see tests/simulation/test_pruned_run.py
BEFORE_THE_FIRST_ROUND = {"hello_failed"}  # see tests/server: such a client is not in the run


def test_the_kills_cover_every_kind_of_event(reference):
    with Journal.read(reference / "tiny") as journal:
        happened = [event.kind.value for event in journal.events()]
    for kill in KILLS:
        kind, _, count = kill.partition(":")
        assert happened.count(kind) >= int(count), f"{kill} never happens"
    kinds = {kill.partition(":")[0] for kill in KILLS}
    assert set(happened) == kinds
    others = NEEDS_A_DEADLINE | BEFORE_THE_FIRST_ROUND | ASKED_FOR_BY_THE_RUN_FILE | OF_A_SCHEDULER | OF_PRUNED_CLIENTS
    assert {kind.value for kind in EventKind} == kinds | others


@pytest.mark.parametrize("kill", KILLS)
def test_killed_at_any_event_it_ends_with_the_same_adapter(reference, tmp_path, kill):
    assert run(tmp_path, kill=kill) == -9
    assert run(tmp_path, resume=True) == 0
    assert story(tmp_path) == story(reference)
    (summary,) = list_runs(tmp_path)
    assert summary.state is RunState.FINISHED
    assert (tmp_path / "tiny" / "adapter" / "adapter_model.safetensors").read_bytes() == (
        reference / "tiny" / "adapter" / "adapter_model.safetensors"
    ).read_bytes()


def test_killed_between_each_reply_and_the_commit_in_one_run(reference, tmp_path):
    """Killed again and again, at the last accepted update of each attempt to finish: nothing is counted twice."""
    assert run(tmp_path, kill="accepted:3") == -9
    for _ in range(3):
        assert run(tmp_path, kill="accepted:3", resume=True) == -9
    while (code := run(tmp_path, kill="committed:1", resume=True)) == -9:
        pass
    assert code == 0
    assert story(tmp_path) == story(reference)


def kills_at_random_times(folder, rng, whole):
    """How often the run in `folder` was killed, in four starts, each after up to 0.6 of the `whole` seconds."""
    kills = 0
    for _ in range(4):
        process = tiny.start_tiny(folder, **options(resume=(folder / "tiny" / "journal.sqlite").exists()))
        time.sleep(rng.uniform(0.02, 0.6) * whole)
        process.kill()
        process.join(120)
        kills += process.exitcode == -9
    return kills


@pytest.mark.parametrize("seed", range(5))
def test_killed_at_random_times(reference, tmp_path, seed):
    rng, began = random.Random(seed), time.monotonic()
    assert run(tmp_path / "timed") == 0
    whole = time.monotonic() - began  # on this machine, at that moment: the next run may be twice as fast
    folder = tmp_path / "first"
    while not kills_at_random_times(folder, rng, whole):
        folder, whole = tmp_path / f"{whole:.9f}", whole / 2
    resume = (folder / "tiny" / "journal.sqlite").exists()
    assert run(folder, resume=resume) == 0
    assert story(folder) == story(reference)


def test_a_finished_run_is_left_as_it_is(reference):
    before = (reference / "tiny" / "journal.sqlite").read_bytes()
    assert run(reference, resume=True) == 0
    with Journal.read(reference / "tiny") as journal:
        assert len(list(journal.events(EventKind.RUN_STARTED))) == 1
    assert story(reference)
    assert len(before) == len((reference / "tiny" / "journal.sqlite").read_bytes())


def test_the_real_script_killed_and_resumed_as_a_person_would(tmp_path):
    """A plain interpreter, no forking: as `fedpeft run` and `fedpeft resume`."""
    script = [sys.executable, str(Path(tiny.__file__)), str(tmp_path / "killed")]
    whole = subprocess.run([*script[:2], str(tmp_path / "whole")], capture_output=True, text=True, check=True)
    assert subprocess.run([*script, "--kill", "accepted:5"], capture_output=True, check=False).returncode == -9
    resumed = subprocess.run([*script, "--resume"], capture_output=True, text=True, check=True)
    assert resumed.stdout == whole.stdout
    assert len(whole.stdout.strip()) == 64


# A client's disk


def test_clients_that_lost_their_disks_are_given_snapshots_and_with_a_lossless_uplink_nothing_changes(tmp_path):
    assert run(tmp_path / "whole", codec__up="fp32") == 0
    assert run(tmp_path / "lost", codec__up="fp32", kill="committed:3") == -9
    shutil.rmtree(tmp_path / "lost" / "tiny" / "clients")
    assert run(tmp_path / "lost", codec__up="fp32", resume=True) == 0
    assert story(tmp_path / "lost") == story(tmp_path / "whole")


def test_with_a_lossy_uplink_lost_residuals_are_lost_and_the_run_goes_on(reference, tmp_path):
    """What is promised: the run finishes, and only what the codec still owed is gone."""
    assert run(tmp_path, kill="committed:3") == -9
    shutil.rmtree(tmp_path / "tiny" / "clients")
    assert run(tmp_path, resume=True) == 0
    ours, theirs = story(tmp_path), story(reference)
    assert {n: ours[n] for n in range(3)} == {n: theirs[n] for n in range(3)}
    assert {n: [c for c, *_ in who] for n, (_, who) in ours.items()} == {
        n: [c for c, *_ in who] for n, (_, who) in theirs.items()
    }
    assert ours[ROUNDS] != theirs[ROUNDS], "the residuals count: without them the bits differ"


# With deadlines that fire, who answers in time depends on when the coordinator was away: no equal hash is promised


@pytest.mark.parametrize("kill", ["abandoned:1", "late:1", "accepted:4", "committed:3"])
def test_a_run_with_stragglers_killed_and_resumed_ends_sound(tmp_path, kill):
    slow = {
        "faults": [{"client": "c00", "rounds": [1, 2, 3], "kind": "slow", "factor": 9.0}],
        "round__deadline_s": 5.0,
        "round__late": "fold",
        "round__min_replies": 1,
        "ask": 5,
        "rounds": 6,
    }
    assert run(tmp_path, kill=kill, **slow) == -9
    assert run(tmp_path, resume=True, **slow) == 0
    with Journal.open(tmp_path / "tiny") as journal:
        assert [e.round for e in journal.events(EventKind.COMMITTED)] == list(range(7))
        accepted = [(e.round, e.attempt, e.client) for e in journal.events(EventKind.ACCEPTED)]
        assert len(set(accepted)) == len(accepted)


def test_amplitudes_outlive_a_kill(tmp_path):
    """Directions drawn by importance, in the middle of an epoch: what they are drawn by is in the commit."""
    options = {"zeroth__size": 64, "zeroth__sampling": "importance", "zeroth__temperature": 8.0}
    options |= {"zeroth__deviations": 4.0, "local__optimizer": "sgd", "evaluation__centralised": False}
    assert run(tmp_path / "whole", **options) == 0
    assert run(tmp_path / "cut", kill="accepted:7", **options) == -9
    assert run(tmp_path / "cut", resume=True, **options) == 0
    assert story(tmp_path / "cut") == story(tmp_path / "whole")


ZEROTH = {"zeroth__size": 64, "zeroth__refresh": 2, "local__optimizer": "sgd", "evaluation__centralised": False}


DELTA = {**ZEROTH, "zeroth__sends": "delta", "local__optimizer": "zo-adamu"}


@pytest.fixture(scope="module", params=[ZEROTH, DELTA], ids=["scalars", "delta"])
def zeroth(request, tmp_path_factory):
    """What such a run is told, and the folder of one that was never killed."""
    folder = tmp_path_factory.mktemp("zeroth")
    assert run(folder, **request.param) == 0
    return request.param, folder


@pytest.mark.parametrize("kill", ["asked:8", "accepted:3", "accepted:7", "refused:1", "committed:1", "committed:3"])
def test_a_zeroth_order_run_killed_and_resumed_is_the_same_model(zeroth, tmp_path, kill):
    """Faults and all: a corrupt reply, a crash, clients that come back to a coordinator that was killed."""
    told, reference = zeroth
    assert run(tmp_path, kill=kill, **told) == -9
    assert run(tmp_path, resume=True, **told) == 0
    assert story(tmp_path) == story(reference)
