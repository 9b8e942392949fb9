"""Who is in which batch: seeded permutations of the client's examples, one after another."""

import numpy as np
import pytest

from fedpeft.training import batch_order


@pytest.mark.parametrize(("examples", "size"), [(12, 4), (10, 4), (7, 7), (5, 3), (1, 1)])
def test_each_pass_deals_every_example_once(examples, size):
    steps = 6 * examples // size
    dealt = np.concatenate(list(batch_order(3, examples, size, steps)))
    passes = [dealt[i : i + examples] for i in range(0, len(dealt) - examples + 1, examples)]
    assert len(passes) >= 5
    assert all(sorted(part) == list(range(examples)) for part in passes)
    assert examples < 5 or any(not np.array_equal(passes[0], part) for part in passes)


def test_every_batch_is_full():
    assert [len(batch) for batch in batch_order(3, 10, 4, 7)] == [4] * 7


@pytest.mark.parametrize("examples", [1, 3])
def test_few_examples_make_small_batches_of_all_of_them(examples):
    assert [sorted(batch) for batch in batch_order(3, examples, 16, 5)] == [list(range(examples))] * 5


def test_the_seed_decides():
    first, again, other = (np.concatenate(list(batch_order(seed, 50, 8, 9))) for seed in (3, 3, 2**64 - 1))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_more_steps_only_add_batches():
    short, long = (list(batch_order(3, 11, 4, steps)) for steps in (3, 9))
    assert all(np.array_equal(a, b) for a, b in zip(short, long, strict=False))


LENGTHS = np.random.default_rng(5).integers(3, 60, 150)


@pytest.mark.parametrize("size", [1, 7, 16, 200])
def test_with_lengths_every_pass_still_deals_every_example_once(size):
    size_used = min(size, 150)
    dealt = np.concatenate(list(batch_order(3, 150, size, 2 * 150 // size_used, LENGTHS)))
    assert sorted(dealt[:150]) == list(range(150))
    assert [len(batch) for batch in batch_order(3, 150, size, 9, LENGTHS)] == [size_used] * 9


def test_with_lengths_batches_hold_less_padding():
    def padded(lengths):
        return np.mean([LENGTHS[batch].max() for batch in batch_order(3, 150, 16, 45, lengths)])

    assert padded(LENGTHS) < 0.75 * padded(None)


def test_with_lengths_short_texts_do_not_always_come_first():
    firsts = [LENGTHS[next(batch_order(seed, 150, 16, 1, LENGTHS))].mean() for seed in range(20)]
    assert np.std(firsts) > 5
