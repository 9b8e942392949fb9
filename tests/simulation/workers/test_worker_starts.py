"""Distinct starts are numbered, so that each is sent once."""

from __future__ import annotations

import numpy as np

from fedpeft.simulation.workers.workshop import KEPT, StartBook


def vector(value):
    return np.full(4, value, dtype=np.float32)


def test_equal_vectors_share_a_number_and_others_do_not():
    book = StartBook()
    first, second = book.number(vector(1)), book.number(vector(2))
    assert first != second
    assert book.number(vector(1)) == first
    assert book[second].tolist() == vector(2).tolist()


def test_a_vector_that_is_written_to_afterwards_is_another_one():
    book, start = StartBook(), vector(1)
    first = book.number(start)
    start += 1
    assert book.number(start) != first
    assert book[first].tolist() == vector(1).tolist()


def test_those_used_last_are_kept():
    book = StartBook()
    numbers = [book.number(vector(value)) for value in range(KEPT + 2)]
    book.number(vector(0))
    book.forget()
    assert book.numbers == {*numbers[3:], numbers[0]}
    assert book.number(vector(1)) not in numbers, "a number that was given away never comes back"
