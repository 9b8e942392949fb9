"""Real worker processes: the same bits, whatever dies."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from tiny import run_tiny, start_tiny, tiny_arguments
from tiny_text import write_run

from fedpeft import simulate
from fedpeft.config import load_run_file
from fedpeft.journal import EventKind, Journal
from fedpeft.simulation.federation import assemble
from fedpeft.simulation.own import own_federation
from fedpeft.simulation.workers import SpreadTrainer
from fedpeft.simulation.workers.processes import Processes, can_fork
from fedpeft.training import TrainingJob
from fedpeft.types import ClientId, Plan

pytestmark = pytest.mark.skipif(not can_fork(), reason="processes cannot be forked here")


def federation(tmp_path, change=lambda clients: None, **options):
    arguments = tiny_arguments(tmp_path, clients=6, **options)
    change(arguments["clients"])
    return own_federation(
        **{name: arguments[name] for name in ("model", "peft_config", "clients", "loss", "test", "correct")},
        collate=None,
        metrics={},
        client_test={},
        strategy=None,
        base_name="tiny",
        table={
            "run": {"name": "tiny", "rounds": 1},
            "model": {"source": "python-objects"},
            "devices": [{"name": "d", "clients": 6}],
            "round": {"ask": 6},
        },
        options=arguments["options"],
    )


def jobs(subject, *, shift=0.0, **more):
    start = subject.initial + np.float32(shift)
    found = []
    for number, (client, data) in enumerate(subject.train.items()):
        fields = {"seed": number, "steps": 2 + number % 3, "batch_size": 8, "learning_rate": 0.02, **more}
        found.append(TrainingJob(Plan("r", 1, 1, ClientId(client), **fields), start, data))
    return found


def spread(subject, workers=2, *, fork=True, **more):
    return SpreadTrainer(Processes(subject, fork=fork), workers, subject.trainer, **more)


def deltas(trainer, work):
    found = list(trainer.run(work))
    assert [one.fault for one in found] == [None] * len(work)
    assert [one.plan for one in found] == [job.plan for job in work]
    return [one.delta for one in found]


def same(left, right):
    return len(left) == len(right) and all(np.array_equal(a, b) for a, b in zip(left, right, strict=True))


@pytest.mark.parametrize("workers", [1, 2, 5])
@pytest.mark.parametrize("trainer", ["batched", "sequential"])
def test_the_same_bits_as_in_one_process(tmp_path, workers, trainer):
    subject = federation(tmp_path, engine__trainer=trainer)
    work = [
        *jobs(subject),
        *jobs(subject, shift=0.01, optimizer="sgd", objective="proximal", objective_params={"mu": 0.1}),
    ]
    steps = []
    expected = deltas(subject.trainer(), work)
    with spread(subject, workers, on_step=lambda: steps.append(1)) as spreader:
        for _ in range(2):
            assert same(deltas(spreader, work), expected)
    assert len(steps) == 2 * sum(job.plan.steps for job in work)


def test_a_start_is_sent_once_a_worker(tmp_path, monkeypatch):
    subject = federation(tmp_path)
    with spread(subject) as trainer:
        sent = []
        for worker in trainer.workshop.workers:
            send = worker.connection.send_bytes
            monkeypatch.setattr(
                worker.connection, "send_bytes", lambda data, send=send: (sent.append(len(data)), send(data))
            )
        for _ in range(3):
            deltas(trainer, jobs(subject))
    assert sent.count(4 * subject.initial.size) == 2


def test_a_worker_that_is_killed_costs_nothing_but_time(tmp_path):
    subject, told = federation(tmp_path, engine__trainer="sequential"), []
    work = jobs(subject, steps=100)
    expected = deltas(subject.trainer(), work)
    with spread(subject, tell=told.append) as trainer:
        running = trainer.run(work)
        first = next(running)  # each of the two has about two of its three clients before it
        victim = trainer.workshop.workers[1].process.pid
        os.kill(victim, signal.SIGKILL)
        assert same([one.delta for one in (first, *running)], expected)
        assert victim not in [worker.process.pid for worker in trainer.workshop.workers]
    assert len(told) == 1
    assert f"process {victim}) was killed by signal 9" in told[0]  # and what it had in hand, if anything


def test_a_worker_that_dies_at_rest_is_replaced(tmp_path):
    subject, told = federation(tmp_path), []
    expected = deltas(subject.trainer(), jobs(subject))
    with spread(subject, tell=told.append) as trainer:
        deltas(trainer, jobs(subject))
        victim = trainer.workshop.workers[0].process
        os.kill(victim.pid, signal.SIGKILL)
        victim.join(60)  # else the other worker may have done everything before its pipe ends
        assert same(deltas(trainer, jobs(subject)), expected)
    assert len(told) == 1


class Deadly(list):
    """Data that ends the process that trains on it, unless that is the test's own."""

    here = os.getpid()

    def __getitem__(self, index):
        if os.getpid() != self.here:
            os._exit(3)
        return super().__getitem__(index)


def test_a_client_that_kills_its_workers_is_refused_by_name(tmp_path):
    def change(clients):
        clients["c03"] = Deadly(clients["c03"])

    subject, told = federation(tmp_path, change), []
    work = jobs(subject)
    expected = dict(zip(subject.train, deltas(subject.trainer(), work), strict=True))
    with spread(subject, tell=told.append) as trainer:
        found = {one.plan.client: one for one in trainer.run(work)}
    fault = found.pop("c03").fault
    assert fault.code == "engine.worker-died"
    assert "client c03: the worker that trained it ended with status 3, twice" in fault.message
    assert same([one.delta for one in found.values()], [expected[client] for client in found])
    assert len(told) == 2


class Broken(list):
    def __getitem__(self, index):
        raise OSError("this disk cannot be read")


def test_an_exception_is_raised_as_without_workers(tmp_path):
    def change(clients):
        clients["c02"] = Broken(clients["c02"])

    subject, found = federation(tmp_path, change), []
    with spread(subject) as trainer:
        with pytest.raises(OSError, match="this disk cannot be read"):
            found.extend(trainer.run(jobs(subject)))
        assert [one.plan.client for one in found] == ["c00", "c01"]
        others = [job for job in jobs(subject) if job.plan.client != "c02"]
        assert len(deltas(trainer, others)) == 5


def test_a_client_whose_loss_is_not_finite_is_at_fault(tmp_path):
    def change(clients):
        clients["c01"] = [(x * float("nan"), y) for x, y in clients["c01"]]

    subject = federation(tmp_path, change)
    expected = [one.fault for one in subject.trainer().run(jobs(subject))]
    with spread(subject) as trainer:
        found = [one.fault for one in trainer.run(jobs(subject))]
    assert [fault and fault.render() for fault in found] == [fault and fault.render() for fault in expected]
    assert found[1] is not None


@pytest.mark.slow
def test_workers_that_assemble_the_run_file_themselves(tmp_path):
    subject = assemble(load_run_file(write_run(tmp_path)))
    work = jobs(subject)
    expected = deltas(subject.trainer(), work)
    with spread(subject, fork=False) as trainer:
        assert same(deltas(trainer, work), expected)


@pytest.mark.slow
def test_a_run_whose_workers_die_tells_of_it_and_ends_with_the_same_adapter(tmp_path):
    expected = run_tiny(tmp_path / "one").adapter_hash

    def kill_a_worker(event):
        if event.kind is EventKind.ROUND_OPENED and event.round == 2:
            os.kill(children()[0], signal.SIGKILL)

    result = run_tiny(tmp_path / "two", engine__workers=2, observers=[kill_a_worker])
    assert result.adapter_hash == expected
    with Journal.read(result.folder) as journal:
        (told,) = journal.events(EventKind.FAILED)
    assert "was killed by signal 9" in told.payload["reason"]
    assert children() == [], "workers end with their run"


def children():
    """Processes started by this one with its own program: forked ones."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            status = dict(line.split(":\t", 1) for line in (path / "status").read_text().splitlines() if ":\t" in line)
            forked = (path / "cmdline").read_bytes() == Path("/proc/self/cmdline").read_bytes()
            if int(status["PPid"]) == os.getpid() and forked and not status["State"].startswith("Z"):
                found.append(int(path.name))
    return found


def _stuck(folder):
    """A run whose workers say who they are and then take an hour for a step."""

    def loss(model, batch):
        (folder / str(os.getpid())).touch()
        time.sleep(3600)

    signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored in what a shell runs in the background
    arguments = tiny_arguments(folder / "runs", engine__workers=2, engine__trainer="sequential")
    parent = os.getpid()
    plain = arguments["loss"]
    arguments["loss"] = lambda model, batch: plain(model, batch) if os.getpid() == parent else loss(model, batch)
    simulate(**arguments)


@pytest.mark.system
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
def test_workers_do_not_outlive_their_parent(tmp_path, number):
    context = multiprocessing.get_context("fork")
    process = context.Process(target=_stuck, args=(tmp_path,))
    process.start()
    stuck = await_(lambda: [int(path.name) for path in tmp_path.iterdir() if path.name.isdigit()], 2)
    os.kill(process.pid, number)
    process.join(30)
    assert process.exitcode not in (None, 0)
    assert await_(lambda: [pid for pid in stuck if not alive(pid)], 2)


@pytest.mark.system
@pytest.mark.parametrize("kill", ["round_opened:2", "accepted:5", "committed:3"])
def test_a_run_that_is_killed_beside_its_workers_goes_on_at_once(tmp_path, kill):
    process = start_tiny(tmp_path / "parts", kill=kill, engine__workers=2)
    process.join(60)
    assert process.exitcode == -signal.SIGKILL
    resumed = run_tiny(tmp_path / "parts", resume=True, engine__workers=2)  # no worker holds the run's lock
    assert resumed.adapter_hash == run_tiny(tmp_path / "whole").adapter_hash


def await_(found, count):
    deadline = time.monotonic() + 30
    while len(found()) < count:
        assert time.monotonic() < deadline, f"only {found()}"
        time.sleep(0.02)
    return found()


def alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


if sys.platform != "linux":  # /proc is read above
    pytestmark = pytest.mark.skip(reason="Linux only")
