"""The hand-out of work, on workers that do what the test says: no process, no clock."""

from __future__ import annotations

from collections import deque

import numpy as np
import pytest

from fedpeft.errors import ClientFault, RoundError
from fedpeft.simulation.workers import SpreadTrainer
from fedpeft.simulation.workers.spread import FALSE_STARTS
from fedpeft.simulation.workers.workshop import Crashed, Done, Lost, Ready, Rest, Steps
from fedpeft.training import TrainingJob, TrainingResult
from fedpeft.types import ClientId, Plan

START = np.zeros(2, dtype=np.float32)


def job(client, steps=1):
    plan = Plan("r", 2, 1, ClientId(client), seed=0, steps=steps, batch_size=1, learning_rate=0.1)
    return TrainingJob(plan, START, [0])


def result(job):
    return TrainingResult(job.plan, np.full(2, ord(job.plan.client[-1]), dtype=np.float32))


class Scripted:
    """A worker that answers a share at once, except for clients with a fate of their own."""

    def __init__(self, number, fates):
        self.number = number
        self.fates = fates
        self.words = deque([Ready()])
        self.shares = []

    @property
    def name(self):
        return f"worker {self.number}"

    def ask(self, share):
        assert not self.words, "a worker is asked while it works"
        self.shares.append([job.plan.client for _, job in share])
        for place, job in share:
            fate = self.fates.get(job.plan.client)
            if fate == "dies" or (fate == "dies once" and self.fates.pop(job.plan.client)):
                self.words.append(Lost("was killed by signal 9"))
                return
            self.words.append(Steps(job.plan.steps))
            self.words.append(Crashed(place) if fate == "crashes" else Done(place, result(job)))
        self.words.append(Rest())


class Workshop:
    """Workers speak in turn, the one with the highest number first: results come in out of order."""

    def __init__(self, fates=None, *, stillborn=0):
        self.fates = dict(fates or {})
        self.stillborn = stillborn
        self.workers = []
        self.all = []
        self.closed = False

    def start(self, number):
        worker = Scripted(number, self.fates)
        if self.stillborn:
            self.stillborn -= 1
            worker.words = deque([Lost("ended with status 1")])
        self.workers.append(worker)
        self.all.append(worker)
        return worker

    def listen(self):
        said = [(w, w.words.popleft()) for w in sorted(self.workers, key=lambda w: -w.number) if w.words]
        assert said, "everybody waits: the trainer hangs"
        return said

    def stop(self, worker):
        self.workers.remove(worker)

    def close(self):
        self.closed = True
        self.workers.clear()


class Home:
    """The trainer of this process."""

    def run(self, jobs):
        for job in jobs:
            if job.plan.client == "bad":
                raise ValueError("this client's data is broken")
            yield result(job)


def spread(workshop, workers=2, **more):
    return SpreadTrainer(workshop, workers, Home, **more)


def clients(results):
    return [found.plan.client for found in results]


@pytest.mark.parametrize("workers", [1, 2, 3, 7])
def test_results_come_in_the_order_of_the_jobs(workers):
    workshop, steps = Workshop(), []
    with spread(workshop, workers, on_step=lambda: steps.append(1)) as trainer:
        jobs = [job(name, steps) for name, steps in zip("abcde", (1, 9, 1, 4, 1), strict=True)]
        for _ in range(2):
            found = list(trainer.run(jobs))
            assert clients(found) == list("abcde")
            assert all(np.array_equal(one.delta, result(two).delta) for one, two in zip(found, jobs, strict=True))
    assert len(steps) == 2 * 16
    assert workshop.closed
    assert sorted(client for worker in workshop.all for share in worker.shares for client in share) == sorted(
        "abcde" * 2
    )


def test_nothing_to_do_asks_nobody():
    workshop = Workshop()
    with spread(workshop) as trainer:
        assert list(trainer.run([])) == []
    assert [worker.shares for worker in workshop.all] == [[], []]


def test_a_lost_share_is_taken_up_alone_by_others():
    workshop, told = Workshop({"c": "dies once"}), []
    with spread(workshop, 2, tell=told.append) as trainer:
        found = list(trainer.run([job(name) for name in "abcdef"]))
    assert clients(found) == list("abcdef")
    assert all(one.fault is None for one in found)
    # a, c, e were one share: a was told of before c was begun.
    assert told == ["worker 1 was killed by signal 9; its 2 unfinished clients are trained anew"]
    assert len(workshop.all) == 3
    again = [share for worker in workshop.all for share in worker.shares if len(share) == 1]
    assert sorted(again) == [["c"], ["e"]]


def test_a_client_that_two_workers_die_of_is_named_and_the_others_go_on():
    workshop, told = Workshop({"c": "dies"}), []
    with spread(workshop, 2, tell=told.append) as trainer:
        found = {one.plan.client: one for one in trainer.run([job(name) for name in "abcdef"])}
        later = list(trainer.run([job(name) for name in "xy"]))
    assert list(found) == list("abcdef")
    assert [name for name, one in found.items() if one.fault is not None] == ["c"]
    assert found["c"].fault.code == "engine.worker-died"
    assert "client c" in found["c"].fault.message
    assert "signal 9" in found["c"].fault.message
    assert len(told) == 2
    assert clients(later) == ["x", "y"]


def test_what_crashes_on_a_worker_is_met_again_here():
    workshop = Workshop({"good": "crashes"})
    with spread(workshop) as trainer:
        found = list(trainer.run([job("a"), job("good"), job("z")]))
    assert [one.fault for one in found] == [None] * 3, "what works here counts, wherever it failed"


def test_what_crashes_here_too_is_raised_in_its_turn_and_the_trainer_can_be_used_again():
    workshop, found = Workshop({"bad": "crashes"}), []
    with spread(workshop) as trainer:
        with pytest.raises(ValueError, match="this client's data is broken"):
            found.extend(trainer.run([job("a"), job("bad"), job("z")]))
        assert clients(found) == ["a"]
        assert clients(trainer.run([job("z")])) == ["z"]


def test_a_call_that_is_given_up_leaves_no_result_for_the_next_one():
    workshop = Workshop()
    with spread(workshop, 2) as trainer:
        results = trainer.run([job(name) for name in "abcdef"])
        assert next(results).plan.client == "a"
        results.close()
        assert clients(trainer.run([job(name) for name in "uvwxyz"])) == list("uvwxyz")


def test_workers_that_cannot_be_started_end_the_run_with_one_error():
    workshop = Workshop(stillborn=100)
    with spread(workshop) as trainer:
        for _ in range(2):
            with pytest.raises(RoundError, match="ended with status 1") as caught:
                list(trainer.run([job("a")]))
            assert caught.value.code == "engine.workers"
    assert len(workshop.all) <= 2 + FALSE_STARTS, "the second call does not try again"


def test_a_worker_that_fails_to_start_now_and_then_costs_nothing():
    workshop = Workshop(stillborn=FALSE_STARTS - 1)
    with spread(workshop) as trainer:
        assert clients(trainer.run([job(name) for name in "abc"])) == list("abc")


def test_a_fault_is_passed_on():
    fault = ClientFault("client b: no", code="training.loss-not-finite")

    class Faulty(Scripted):
        def ask(self, share):
            super().ask(share)
            self.words = deque(
                Done(said.place, TrainingResult(said.result.plan, fault=fault))
                if isinstance(said, Done) and said.result.plan.client == "b"
                else said
                for said in self.words
            )

    workshop = Workshop()
    workshop.start = lambda number: workshop.workers.append(Faulty(number, {})) or workshop.workers[-1]
    with spread(workshop) as trainer:
        found = list(trainer.run([job(name) for name in "abc"]))
    assert [one.fault for one in found] == [None, fault, None]
