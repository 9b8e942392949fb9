"""An update of codes: decoded when somebody reads its delta, once, and never before."""

from dataclasses import FrozenInstanceError, replace

import numpy as np
import pytest

from fedpeft.types import ClientId, Update


class Counted:
    """Codes that count how often they are decoded."""

    size = 3

    def __init__(self):
        self.decoded = 0

    def decode(self):
        self.decoded += 1
        return np.full(3, self.decoded, dtype=np.float32)


@pytest.fixture
def codes():
    return Counted()


@pytest.fixture
def update(codes):
    return Update.of_codes(ClientId("c00"), 4, codes, 30.0, {"loss_last": 1.5})


def test_reading_the_delta_decodes_it_once(update, codes):
    assert (update.client, update.round, update.weight, update.metrics) == ("c00", 4, 30.0, {"loss_last": 1.5})
    assert update.foldable is codes
    assert codes.decoded == 0
    assert update.delta is update.delta
    assert codes.decoded == 1


def test_an_update_with_another_delta_knows_no_codes(update, codes):
    """A strategy that clips or masks gets what it asked for; the codes of before would undo it."""
    other = replace(update, delta=np.zeros(3, dtype=np.float32))
    assert other.coded is None
    assert other.foldable is other.delta
    assert codes.decoded == 0


def test_an_update_with_another_weight_keeps_the_delta(update):
    other = replace(update, weight=1.0)
    assert other.weight == 1
    assert other.delta is update.delta


def test_a_plain_update_is_its_delta():
    update = Update(ClientId("c00"), 1, np.ones(2, dtype=np.float32), 1.0)
    assert update.foldable is update.delta
    assert update.metrics == {}


def test_it_stays_frozen_and_has_no_other_attributes(update):
    with pytest.raises(FrozenInstanceError):
        update.weight = 2.0
    with pytest.raises(AttributeError, match="delat"):
        update.delat
