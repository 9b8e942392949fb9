import gc
import mmap
import tracemalloc

import pytest
from fake_benchmarks import make_counter

from fedpeft.bench.machine import commit_of, this_machine
from fedpeft.bench.memory import forget_peak, peak_resident, resident
from fedpeft.bench.process import Apart, in_fresh_process, side_by_side
from fedpeft.bench.timing import interleaved, repeated


def test_contenders_take_turns():
    calls = []
    ticks = iter(range(1000))
    samples = interleaved(
        {"a": lambda: calls.append("a"), "b": lambda: calls.append("b")},
        repeats=2,
        warmup=1,
        clock=lambda: float(next(ticks)),
    )
    assert calls == ["a", "b"] * 3
    assert samples == {"a": [1.0, 1.0], "b": [1.0, 1.0]}


def test_no_collection_while_the_clock_runs():
    assert gc.isenabled()
    seen = []
    interleaved({"a": lambda: seen.append(gc.isenabled())}, repeats=1)
    assert seen == [False, False]
    assert gc.isenabled()
    with pytest.raises(ZeroDivisionError):
        interleaved({"a": lambda: 1 / 0}, repeats=1)
    assert gc.isenabled()


def test_repeated():
    calls = []
    repeated(lambda: calls.append(1), 5)()
    assert len(calls) == 5


def test_peak_is_seen_after_the_memory_is_free_again():
    forget_peak()
    before = resident()
    with mmap.mmap(-1, 40_000_000) as block:  # an allocator may have as much to spare from an earlier test
        block.write(b"1" * len(block))
    assert peak_resident() - before > 30_000_000
    forget_peak()
    assert peak_resident() - resident() < 10_000_000


def test_machine(tmp_path):
    machine = this_machine()
    assert machine.cores >= 1
    assert machine.memory_gb > 0
    assert machine.processor
    assert machine.versions.keys() >= {"fedpeft", "torch", "numpy"}
    assert this_machine(["no-such-package"]).versions == {}
    assert commit_of(tmp_path) == ""


@pytest.mark.slow
def test_fresh_processes():
    assert in_fresh_process(tracemalloc.is_tracing) is False
    assert side_by_side(divmod, [(7, 2), (9, 4)]) == [(3, 1), (2, 1)]


@pytest.mark.slow
def test_a_contender_apart_measures_itself():
    with Apart(make_counter, 5) as work:
        samples = interleaved({"apart": work}, repeats=2, warmup=1, clock=lambda: 7.0)
        assert len(samples["apart"]) == 2
        assert all(0 <= seconds < 1 for seconds in samples["apart"])
        with pytest.raises(RuntimeError, match="StopIteration"):
            work()


@pytest.mark.slow
def test_a_contender_apart_that_cannot_be_set_up_says_why():
    with Apart(make_counter, -1) as work, pytest.raises(RuntimeError, match=r"^start is negative$"):
        work()
