"""Who goes together: one shape of batch a pass, as many clients as rows and memory allow, nobody left behind."""

from __future__ import annotations

from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from fedpeft.training.batched.passes import FIRST, TRANSIENT, PassLimits, next_pass


@dataclass(eq=False)
class Waiting:
    """A client at work, as far as `next_pass` looks at it."""

    order: int
    key: str
    left: int
    batch: object = "some"

    @property
    def shape(self):
        return self.key


def limits(rows=100, memory=10_000, state=10, row=20):
    return PassLimits(rows, memory, state, row)


def test_before_a_shape_is_measured_only_a_few_go():
    seats = [Waiting(k, "a", 1) for k in range(9)]
    assert len(next_pass(seats, limits())) == FIRST
    assert not limits().known("a")


def test_rows_and_memory_are_those_of_the_measured_pass():
    own = limits(rows=100, memory=10_000, state=10, row=20)
    own.measured("a", clients=2, rows=20, held=400)  # 10 rows, 20 + 1.5 * 200 bytes a client
    assert own.known("a")
    assert own.allowed("a", seated=1) == 10  # by rows
    own.memory = 8 * 10 + 4 * (20 + TRANSIENT * 200)
    assert own.allowed("a", seated=8) == 4  # by memory, eight being at work
    assert own.allowed("a", seated=30) == 3
    assert own.allowed("a", seated=10**6) == 1  # one can always go


def test_the_largest_pass_goes_first_and_among_equals_those_with_most_left():
    own = limits(rows=3)
    for key in "ab":
        own.measured(key, clients=2, rows=2, held=0)
    seats = [Waiting(0, "a", 9), *[Waiting(k, "b", left) for k, left in enumerate([1, 5, 2, 7, 4], start=1)]]
    assert [seat.order for seat in next_pass(seats, own)] == [2, 4, 5]


def test_passes_of_a_group_are_of_one_size():
    own = limits(rows=4)
    own.measured("a", clients=2, rows=2, held=0)
    seats = [Waiting(k, "a", 1) for k in range(9)]
    sizes = []
    while group := next_pass(seats, own):
        sizes.append(len(group))
        for seat in group:
            seat.batch = None
    assert sizes == [3, 3, 3]


def test_those_who_are_done_wait_for_nothing():
    assert next_pass([Waiting(0, "a", 0, batch=None)], limits()) == []
    assert next_pass([], limits()) == []


@given(
    clients=st.lists(st.tuples(st.sampled_from("abc"), st.integers(1, 6)), min_size=1, max_size=20),
    rows=st.integers(1, 40),
    memory=st.integers(0, 5000),
)
def test_everybody_gets_through_whatever_the_limits(clients, rows, memory):
    own = limits(rows=rows, memory=memory)
    seats = [Waiting(order, key, left) for order, (key, left) in enumerate(clients)]
    passes = 0
    while group := next_pass(seats, own):
        assert len({seat.key for seat in group}) == 1
        assert [seat.order for seat in group] == sorted(seat.order for seat in group)
        if own.known(group[0].key):
            assert len(group) == 1 or len(group) * 5 <= rows
        own.measured(group[0].key, len(group), 5 * len(group), 100 * len(group))
        for seat in group:
            seat.left -= 1
            seat.batch = "some" if seat.left else None
        passes += 1
        assert passes <= sum(left for _, left in clients)
    assert all(seat.left == 0 for seat in seats)
