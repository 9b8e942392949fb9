"""A weight's place in a direction follows from its tensor's name, not from the order that a model has tensors in."""

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fedpeft.adapters import FlatAdapter
from fedpeft.registry import build
from fedpeft.zeroth.coordinates import Coordinates
from fedpeft.zeroth.replica import Replica

SHAPES = {"alpha": (3, 5), "beta": (7,), "gamma": (2, 2, 4), "delta": (1,), "Omega": (6, 3)}
POOLS = ["hadamard", "independent", "fresh", "near-gaussian"]


class Bag(torch.nn.Module):
    """Tensors by name, in the order given; a value follows from its name."""

    def __init__(self, names):
        super().__init__()
        for name in names:
            size = int(np.prod(SHAPES[name]))
            values = torch.sin(torch.arange(size, dtype=torch.float32) + len(name) * 10 + ord(name[0]))
            self.register_parameter(name, torch.nn.Parameter(values.reshape(SHAPES[name])))


def moved(names, pool, seed):
    """Each tensor after a replay, by name; and what one direction is along each."""
    adapter = FlatAdapter(Bag(names))
    replica = Replica(
        adapter.get(), build("pool", pool, {"size": 16, "seed": 4}), Coordinates(16, 2, 1, 1e-3, 1, 4), "rules"
    )
    coefficients = np.random.default_rng(seed).integers(-300, 300, 32).astype(np.float32)
    adapter.set(replica.theta(coefficients))
    z = replica.direction(21, adapter.layout.size).values()
    own = {t.name: z[t.offset : t.offset + t.size] for t in adapter.layout.tensors}
    return {name: p.detach().numpy().copy() for name, p in adapter.model.named_parameters()}, own, replica.identity


@settings(max_examples=40, deadline=None)
@given(order=st.permutations(sorted(SHAPES)), pool=st.sampled_from(POOLS), seed=st.integers(0, 9))
def test_the_order_of_parameters_changes_no_bit(order, pool, seed):
    tensors, directions, identity = moved(order, pool, seed)
    wanted, wanted_directions, wanted_identity = moved(list(SHAPES), pool, seed)
    assert identity == wanted_identity
    for name in SHAPES:
        assert (tensors[name] == wanted[name]).all()
        assert (directions[name] == wanted_directions[name]).all()


@settings(max_examples=40, deadline=None)
@given(names=st.sets(st.sampled_from(sorted(SHAPES)), min_size=1), pool=st.sampled_from(POOLS))
def test_a_subset_is_a_vector_of_its_own(names, pool):
    """What is trained decides where a tensor lies; the direction at a place is the same whoever lies there."""
    _, few, _ = moved(sorted(names), pool, 0)
    _, whole, _ = moved(list(SHAPES), pool, 0)
    joined = np.concatenate([few[name] for name in sorted(few)])
    assert (joined == np.concatenate([whole[name] for name in sorted(whole)])[: len(joined)]).all()
