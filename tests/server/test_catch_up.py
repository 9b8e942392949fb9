"""Which epochs are sealed, and in which form a client is told a version."""

from dataclasses import replace

import numpy as np
import pytest

from fedpeft.codecs.coefficients import CoefficientDownlink, WholeNumbers
from fedpeft.registry import build
from fedpeft.server.broadcasts import Broadcasts
from fedpeft.server.catch_up import Checkpoints, CheckpointSettings
from fedpeft.zeroth.coordinates import Coordinates
from fedpeft.zeroth.replica import Replica

K, E, D = 64, 6, 48
COORDINATES = Coordinates(size=K, epochs=E, refresh=2, unit=1e-4, directions=1, seed=5)
INITIAL = np.random.default_rng(0).standard_normal(D).astype(np.float32)


def replica():
    return Replica(INITIAL.copy(), build("pool", "hadamard", {"size": K, "seed": 5}), COORDINATES)


def settings(**changes):
    return replace(CheckpointSettings(COORDINATES, INITIAL, replica().after, worth=1.0, most=10**6), **changes)


class Run:
    """A coordinator's broadcasts over rounds that each move every coefficient of their epoch."""

    def __init__(self, **changes):
        self.vector = np.zeros(E * K, dtype=np.float32)
        self.changes = changes
        self.broadcasts = self.fresh()
        self.versions = [self.vector.copy()]

    def fresh(self):
        checkpoints = Checkpoints(settings(**self.changes))
        return Broadcasts(np.zeros(E * K, dtype=np.float32), CoefficientDownlink(K), checkpoints=checkpoints)

    def round(self, number, also=(), out=()):
        epoch = COORDINATES.epoch(number)
        draw = np.random.default_rng(number)
        self.vector[epoch * K : (epoch + 1) * K] += draw.integers(1, 900, K)
        for place in also:
            self.vector[place] += 1
        self.versions.append(self.vector.copy())
        self.broadcasts.publish(number, self.vector.copy(), held=range(number), out=out)
        return self.broadcasts.checkpoints.sealed

    def model(self, told, held):
        """The hash of what a client makes of what it is told, from what it holds."""
        own, downlink = replica(), CoefficientDownlink(K, 0, INITIAL)
        codes = downlink.decode_difference(told.body, held)
        if codes.theta is not None:
            own.begin_from(downlink.dequantise(codes), codes.theta)
        return codes, own.digest(downlink.dequantise(codes))


def test_an_epoch_is_sealed_by_the_commit_after_its_last_one():
    run = Run()
    assert [run.round(number) for number in range(1, 8)] == [0, 0, 1, 1, 2, 2, 3]


def test_a_plan_that_is_out_keeps_its_epoch_open():
    run = Run()
    for number in (1, 2, 3, 4):
        run.round(number)
    assert run.round(5, out={3}) == 1  # asked from version 3 for round 4, of epoch 1
    assert run.round(6, out=()) == 2


def test_what_still_moves_is_not_sealed():
    """A server's momentum, or a late answer."""
    run = Run()
    sealed = [run.round(number, also=[0] if number < 6 else []) for number in range(1, 8)]
    assert sealed == [0, 0, 0, 0, 0, 2, 3]


def test_whatever_the_form_it_is_the_same_model():
    run, forms = Run(), set()
    zero = CoefficientDownlink().zero(E * K)
    held, past = zero, 0
    for number in range(1, 12):
        run.round(number)
        told = run.broadcasts.told(number - 1 if number > 1 else 0, past)
        held, digest = run.model(told, held if told.base else zero)
        past = told.past
        forms.add(told.form)
        assert digest == replica().digest(run.vector)
        new = run.broadcasts.told(0)
        assert run.model(new, zero)[1] == digest
        forms.add(new.form)
    assert forms == {"changes", "everything", "checkpoint"}


def test_who_holds_a_checkpoint_of_what_moved_after_all_is_told_everything():
    run = Run()
    zero = CoefficientDownlink().zero(E * K)
    for number in range(1, 8):
        run.round(number)
    first = run.broadcasts.told(0)
    assert (first.form, first.base, first.past) == ("checkpoint", 0, 3)
    run.round(8, also=[3])  # of epoch 0
    again = run.broadcasts.told(7, past=3)
    assert (again.form, again.base, again.past) == ("everything", 0, 0)
    assert run.model(again, zero)[1] == replica().digest(run.vector)
    other = run.broadcasts.told(7)  # who has the coefficients needs no more than what changed
    assert (other.form, other.base) == ("changes", 7)
    assert len(other.body) < len(again.body)
    run.round(9)
    run.round(10)
    third = run.broadcasts.told(9, past=1)  # of epoch 0 as it is now
    assert (third.form, third.past) == ("changes", 1)


@pytest.mark.parametrize(
    ("changes", "form"),
    [
        ({}, "checkpoint"),
        ({"worth": 0.1}, "everything"),
        ({"worth": 50.0}, "checkpoint"),
        ({"most": 300}, "everything"),
    ],
)
def test_it_is_sent_where_it_is_worth_its_bytes_and_fits_a_frame(changes, form):
    run = Run(**changes)
    for number in range(1, 10):
        run.round(number)
    assert run.broadcasts.told(0).form == form


def test_worth_more_than_its_bytes_it_comes_earlier():
    earliest = {}
    for worth in (1.0, 4.0):
        run = Run(worth=worth)
        for number in range(1, 12):
            run.round(number)
            if run.broadcasts.told(0).form == "checkpoint":
                earliest.setdefault(worth, number)
    assert earliest[4.0] < earliest[1.0]


def test_who_has_the_old_epochs_is_not_sent_one_for_the_passes():
    run = Run(worth=1e6)
    for number in range(1, 10):
        run.round(number)
    assert run.broadcasts.told(0).form == "checkpoint"
    assert run.broadcasts.told(4).form == "checkpoint"
    assert run.broadcasts.told(8).form == "changes"
    assert run.broadcasts.told(8, past=2).form == "changes"


def test_a_coordinator_that_was_killed_tells_the_same():
    run = Run()
    for number in range(1, 8):
        run.round(number)
    state, told = run.broadcasts.state(), run.broadcasts.told(0)
    other = Run()
    other.broadcasts.restore(7, run.vector, state)
    assert other.broadcasts.told(0) == told
    assert other.broadcasts.told(6, past=2) == run.broadcasts.told(6, past=2)
    run.round(8)
    other.vector[:] = run.versions[7]
    other.round(8)
    assert other.broadcasts.told(7, past=3) == run.broadcasts.told(7, past=3)
    assert other.broadcasts.checkpoints.sealed == run.broadcasts.checkpoints.sealed == 3


def test_a_state_from_before_there_were_checkpoints_is_read():
    run = Run()
    for number in range(1, 8):
        run.round(number)
    state = {name: array for name, array in run.broadcasts.state().items() if name != "sealed"}
    run.broadcasts.restore(7, run.vector, state)
    assert run.broadcasts.told(0).form == "everything"
    assert run.round(8) == 3


def test_without_a_model_nobody_is_sent_one():
    plain = Broadcasts(np.zeros(E * K, dtype=np.float32), CoefficientDownlink(K))
    for number in range(1, 12):
        plain.publish(number, np.full(E * K, 700.0 + number, dtype=np.float32), held=())
    assert plain.told(0).form == "everything"


def test_the_coefficients_of_two_versions_are_compared_epoch_by_epoch():
    own = Checkpoints(settings())
    first = WholeNumbers(np.arange(E * K, dtype=np.int32))
    second = WholeNumbers(first.values.copy())
    second.values[3 * K + 1] += 1
    assert own.agree(second, first, 3)
    assert not own.agree(second, first, 4)
    assert own.agree(first, first, E)
