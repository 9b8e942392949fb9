"""What the client of a plan sends: all, what its mask leaves, what is not frozen, or what is neither."""

import numpy as np
import pytest
from tiny_pruning import made, some_mask

from fedpeft.client.pruning import compensate_held
from fedpeft.codecs.base import fitted
from fedpeft.errors import ModelError
from fedpeft.layouts import make_layout
from fedpeft.pruning.sent import Sent, still_places
from fedpeft.pruning.units import Group, Units
from fedpeft.registry import build
from fedpeft.server.inflight import Asked
from fedpeft.server.reading import DeltaReading
from fedpeft.types import ALL_COMPONENTS, ClientId, Plan
from fedpeft.wire.frame import Frame, FrameKind

LAYOUT = make_layout({"q.lora_A.weight": (2, 4), "q.lora_B.weight": (4, 2), "score.bias": (3,)})
UNITS = Units((Group(0, "heads", 0, 2),), np.array([-1] * 8 + [0] * 4 + [1] * 4 + [-1] * 3, dtype=np.int32))
LAST = b"\x40"  # of two heads


def plan(**more):
    return Plan("x", 1, 1, ClientId("c00"), seed=1, steps=1, batch_size=1, learning_rate=0.1, **more)


def places(found):
    return found.places.places.tolist()


def shapes(found):
    return {tensor.name: tensor.shape for tensor in found.layout.tensors}


def test_a_plan_without_mask_and_turn_sends_everything():
    found = Sent(LAYOUT, UNITS).of(plan())
    assert found.places is None
    assert found.held is None
    assert (found.layout, found.size) == (LAYOUT, LAYOUT.size)


def test_what_is_frozen_is_not_sent_and_the_rest_keeps_its_tensors():
    found = Sent(LAYOUT).of(plan(frozen=("lora_A",)))
    assert places(found) == found.held.places.tolist() == list(range(8, 19))
    assert [(tensor.name, tensor.offset) for tensor in found.layout.tensors] == [
        ("q.lora_B.weight", 0),
        ("score.bias", 8),
    ]
    assert still_places(LAYOUT, ("lora_A", "score")).tolist() == [True] * 8 + [False] * 8 + [True] * 3


def test_a_smaller_rank_sends_fewer_components_and_counts_for_all():
    """A is (2, 4) at 0, B (4, 2) at 8: of rank 1 the first row and the first column."""
    found = Sent(LAYOUT).of(plan(rank=1))
    assert places(found) == [0, 1, 2, 3, 8, 10, 12, 14, 16, 17, 18]
    assert found.held is None, "what it leaves out is unchanged, not unknown"
    assert [tensor.shape for tensor in found.layout.tensors] == [(1, 4), (4, 1), (3,)]
    assert found.size == found.layout.size == len(places(found))
    assert Sent(LAYOUT).of(plan(rank=2)).places is None


def test_of_components_that_nobody_trains_nobody_says_anything():
    found = Sent(LAYOUT, merged=1).of(plan())
    assert places(found) == found.held.places.tolist() == [0, 1, 2, 3, 8, 10, 12, 14, 16, 17, 18]
    assert found.layout.size == found.size == 11


def test_a_mask_and_a_turn_leave_what_is_in_both():
    sent = Sent(LAYOUT, UNITS)
    assert places(sent.of(plan(mask=LAST))) == [*range(8), *range(12, 19)]
    both = sent.of(plan(mask=LAST, frozen=("lora_A",)))
    assert places(both) == list(range(12, 19))
    assert shapes(both) == {"q.lora_B.weight": (2, 2), "score.bias": (3,)}
    assert shapes(sent.of(plan(mask=LAST))) == {
        "q.lora_A.weight": (2, 4),
        "q.lora_B.weight": (2, 2),
        "score.bias": (3,),
    }
    lower = sent.of(plan(mask=LAST, rank=1))
    assert places(lower) == [0, 1, 2, 3, 12, 14, 16, 17, 18]
    assert shapes(lower) == {"q.lora_A.weight": (1, 4), "q.lora_B.weight": (2, 1), "score.bias": (3,)}
    assert sent.of(plan(mask=LAST, rank=1)).held.places.tolist() == [*range(8), *range(12, 19)]


def test_of_one_digest_the_places_are_the_same():
    plans = [
        plan(mask=mask, frozen=frozen, rank=rank)
        for mask in (b"", LAST)
        for frozen in ((), ("lora_A",), ("lora_B",))
        for rank in (1, 2)
    ]
    found = [sent.of(one) for sent in (Sent(LAYOUT, UNITS), Sent(LAYOUT, UNITS, merged=1)) for one in plans]
    for held in ([one.places for one in found if one.places], [one.held for one in found if one.held]):
        by_digest = {}
        for one in held:
            by_digest.setdefault(one.digest, set()).add(tuple(one.places))
        assert all(len(same) == 1 for same in by_digest.values())


@pytest.mark.parametrize(
    ("frozen", "says"), [(("lora_C",), 'no trained tensor has "lora_C"'), (("lora_A", "lora_B", "bias"), "nothing to")]
)
def test_a_turn_that_cannot_be_is_refused_by_name(frozen, says):
    sent = Sent(LAYOUT)
    for refuse in (lambda: sent.of(plan(frozen=frozen)), lambda: sent.check([(), frozen])):
        with pytest.raises(ModelError, match=says):
            refuse()


@pytest.mark.parametrize("kind", ["bert", "vit", "gpt2", "llama"])
def test_what_a_mask_leaves_has_the_layout_of_the_smaller_model(kind):
    adapter, pruner = made(kind)
    for ratio in (0.3, 0.5):
        mask = some_mask(pruner, ratio)
        smaller = pruner.shrunk(mask)
        found = Sent(adapter.layout, pruner.units).of(plan(mask=mask))
        assert found.layout == smaller.adapter.layout
        assert np.array_equal(found.places.places, smaller.places)


@pytest.mark.parametrize("name", ["lowrank(2)+fp32", "bitdelta"])
@pytest.mark.parametrize("rank", [2, ALL_COMPONENTS])
def test_a_codec_of_tensors_is_told_the_cut_ones_on_both_sides(name, rank):
    """The client as the agent does, the coordinator by its own reading; what is lost is owed in the whole vector."""
    adapter, pruner = made("bert")
    told = plan(mask=some_mask(pruner), rank=rank, codec=name)
    client, coordinator = Sent(adapter.layout, pruner.units), DeltaReading(adapter.layout, pruner.units)
    generator = np.random.default_rng(2)
    delta, owed = generator.normal(size=(2, adapter.layout.size)).astype(np.float32)
    portion = client.of(told)
    codec = fitted(build("codec", name, {}), portion.layout)
    body, left = compensate_held(codec, delta, owed, portion.places)
    frame = Frame(FrameKind.UPDATE, "x", 1, 1, told.client, body=body, codec=name, weight=1.0)
    update = coordinator.update(frame, Asked(told.client, "train", 1, 1, 0.0, told), {})
    held = portion.places.places
    expected = np.zeros_like(delta)
    for tensor in portion.layout.tensors:
        own = slice(tensor.offset, tensor.offset + tensor.size)
        alone = fitted(build("codec", name, {}), make_layout({"it": tensor.shape}))
        expected[held[own]] = alone.decode(alone.encode((delta + owed)[held[own]]), tensor.size)
    np.testing.assert_array_equal(update.delta, expected)
    np.testing.assert_allclose(left[held] + update.delta[held], (delta + owed)[held], atol=1e-5)
    beside = np.setdiff1d(np.arange(len(delta)), held)
    assert np.array_equal(left[beside], owed[beside])
