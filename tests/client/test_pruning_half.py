"""A pruned client: it refuses masks of another model, sends what it holds, and goes on owing the rest."""

import numpy as np
import pytest

from fedpeft.client.pruning import check_mask, compensate_held, scores_of
from fedpeft.codecs.int4 import Int4
from fedpeft.errors import ClientFault
from fedpeft.pruning.scoring import SCORES
from fedpeft.pruning.units import Group, Units
from fedpeft.training import TrainingResult
from fedpeft.types import ClientId, Held, Plan

UNITS = Units((Group(0, "heads", 0, 4),), np.repeat(np.arange(4, dtype=np.int32), 8))
HALF = b"\x30"  # the last two heads


def plan(**more):
    return Plan("x", 1, 1, ClientId("c00"), seed=1, steps=1, batch_size=1, learning_rate=0.1, **more)


def test_what_is_owed_elsewhere_stays_owed():
    generator = np.random.default_rng(3)
    delta, residual = (generator.normal(size=32).astype(np.float32) for _ in range(2))
    held = Held("half", np.arange(16, 32))
    body, left = compensate_held(Int4(), delta, residual, held)
    assert np.array_equal(left[:16], residual[:16])
    sent = Int4().decode(body, 16)
    np.testing.assert_allclose(sent + left[16:], delta[16:] + residual[16:], atol=1e-6)
    whole, rest = compensate_held(Int4(), delta, residual, None)
    np.testing.assert_allclose(Int4().decode(whole, 32) + rest, delta + residual, atol=1e-6)


@pytest.mark.parametrize(
    ("units", "more", "says"),
    [
        (None, {"mask": HALF}, "prunes nobody"),
        (UNITS, {"mask": b"\x30\x00"}, "must have 1"),
        (UNITS, {"mask": b"\x00"}, "none of the 4"),
        (UNITS, {"importance": "by-feeling"}, "by-feeling"),
        (UNITS, {"importance": "magnitude"}, "measures nothing"),
    ],
)
def test_a_plan_that_does_not_fit_this_model_is_refused_by_name(units, more, says):
    with pytest.raises(ClientFault, match="client c00") as fault:
        check_mask(plan(**more), units)
    assert says in str(fault.value)


def test_a_plan_that_fits_passes():
    check_mask(plan(), None)
    check_mask(plan(mask=HALF, importance="lora-gradient"), UNITS)


def test_only_what_is_held_is_sent():
    shares = np.array([0, 0, 0.25, 0.75], dtype=np.float32)
    result = TrainingResult(plan(mask=HALF), np.zeros(32, dtype=np.float32), sent={SCORES: shares})
    (section,) = scores_of(result, UNITS)
    assert np.frombuffer(section.body, dtype="<f2").tolist() == [0.25, 0.75]
    assert scores_of(TrainingResult(plan()), UNITS) == ()
