"""What the client of a plan sends: all, what its mask leaves, what is not frozen, or what is neither."""

import numpy as np
import pytest

from fedpeft.errors import ModelError
from fedpeft.layouts import make_layout
from fedpeft.pruning.sent import Sent, still_places
from fedpeft.pruning.units import Group, Units
from fedpeft.types import ClientId, Plan

LAYOUT = make_layout({"q.lora_A.weight": (2, 4), "q.lora_B.weight": (4, 2), "score.bias": (3,)})
UNITS = Units((Group(0, "heads", 0, 2),), np.array([-1] * 8 + [0] * 4 + [1] * 4 + [-1] * 3, dtype=np.int32))
LAST = b"\x40"  # of two heads


def plan(**more):
    return Plan("x", 1, 1, ClientId("c00"), seed=1, steps=1, batch_size=1, learning_rate=0.1, **more)


def test_a_plan_without_mask_and_turn_sends_everything():
    sent = Sent(LAYOUT, UNITS)
    assert sent.held(plan()) is None
    assert sent.layout(plan()) is LAYOUT


def test_what_is_frozen_is_not_sent_and_the_rest_keeps_its_tensors():
    sent = Sent(LAYOUT)
    asked = plan(frozen=("lora_A",))
    assert sent.held(asked).places.tolist() == list(range(8, 19))
    assert [(tensor.name, tensor.offset) for tensor in sent.layout(asked).tensors] == [
        ("q.lora_B.weight", 0),
        ("score.bias", 8),
    ]
    assert still_places(LAYOUT, ("lora_A", "score")).tolist() == [True] * 8 + [False] * 8 + [True] * 3


def test_a_mask_and_a_turn_leave_what_is_in_both():
    sent = Sent(LAYOUT, UNITS)
    assert sent.held(plan(mask=LAST)).places.tolist() == [*range(8), *range(12, 19)]
    both = sent.held(plan(mask=LAST, frozen=("lora_A",)))
    assert both.places.tolist() == list(range(12, 19))
    assert sent.layout(plan(mask=LAST, frozen=("lora_A",))) is None
    digests = {sent.held(p).digest for p in (plan(mask=LAST), plan(frozen=("lora_A",)), plan(frozen=("lora_B",)))}
    assert len(digests | {both.digest}) == 4, "of one digest the places are the same"


@pytest.mark.parametrize(
    ("frozen", "says"), [(("lora_C",), 'no trained tensor has "lora_C"'), (("lora_A", "lora_B", "bias"), "nothing to")]
)
def test_a_turn_that_cannot_be_is_refused_by_name(frozen, says):
    sent = Sent(LAYOUT)
    for refuse in (lambda: sent.held(plan(frozen=frozen)), lambda: sent.check([(), frozen])):
        with pytest.raises(ModelError, match=says):
            refuse()
