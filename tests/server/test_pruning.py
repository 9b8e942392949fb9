"""The coordinator's half of pruning: masks that hold between plans, scores that are smoothed, and scores refused."""

import numpy as np
import pytest
from fake_fleet import layout

from fedpeft.codecs.fp16 import Fp16
from fedpeft.config import parse_config
from fedpeft.errors import ClientFault, PluginError
from fedpeft.pruning.mask import unpack
from fedpeft.pruning.scoring import SCORES
from fedpeft.pruning.units import Group, Units
from fedpeft.server.inflight import Asked
from fedpeft.server.pruning import Pruning, PruningSettings, masked
from fedpeft.server.reading import DeltaReading
from fedpeft.types import ClientId, Plan
from fedpeft.wire.frame import Frame, FrameKind
from fedpeft.wire.sections import Section

SIZES = (4, 4)
UNITS = Units(
    (Group(0, "heads", 0, 4), Group(0, "channels", 4, 4)), np.array([0, 1, 2, 3, 4, 5, 6, 7, -1], dtype=np.int32)
)
MAGNITUDES = np.arange(1.0, 9.0)


def pruning(**table):
    config = {
        "run": {"name": "x", "rounds": 10},
        "model": {"source": "m"},
        "devices": [{"name": "d", "clients": 4, "pruning": 0.5}],
        "round": {"ask": 2},
        "pruning": {"start": 2, "every": 2, "smoothing": 0.5, **table},
    }
    return Pruning(PruningSettings(UNITS, MAGNITUDES, {"d": 0.5}), parse_config(config, origin="test"))


def plan(number=1, **more):
    fields = {"run": "x", "attempt": 1, "client": ClientId("c00"), "seed": 1, "steps": 1, "batch_size": 1}
    return Plan(round=number, learning_rate=0.1, codec="fp32", **fields, **more)


def asked(of):
    return Asked(of.client, "train", of.round, 1, 0.0, of)


def scores(of, values):
    """The section that a client of this plan sends."""
    kept = unpack(of.mask, SIZES) if of.mask else np.ones(8, dtype=bool)
    return (Section(SCORES, "fp16", Fp16().encode(np.array(values, dtype=np.float32)[kept])),)


def take_up(state, of, values, weight=1.0):
    rest, found = state.read(scores(of, values), asked(of))
    assert rest == ()
    state.observe(found, asked(of), weight)


def kept(state, ratio, number):
    mask = state.mask_for(ratio, number)
    return np.flatnonzero(unpack(mask, SIZES)).tolist() if mask else list(range(8))


def test_nobody_is_pruned_before_the_start_and_magnitude_stands_in_for_what_is_not_measured():
    state = pruning()
    assert state.mask_for(0.5, 1) == b""
    assert kept(state, 0.5, 2) == [2, 3, 6, 7]
    told = state.planned(plan(2), 0.5)
    assert (told.pruning, told.importance) == (0.5, "lora-gradient")
    assert masked(told)["mask"]
    assert masked(state.planned(plan(1), 0.5)) == {}


def test_what_clients_measure_takes_the_place_of_magnitudes_and_is_weighted_by_examples():
    state = pruning()
    take_up(state, state.planned(plan(), 0.5), [1, 0, 0, 0, 0, 0, 0, 0], weight=30)
    take_up(state, state.planned(plan(), 0.5), [0, 1, 0, 0, 0, 0, 0, 0], weight=10)
    state.finish(1)
    assert kept(state, 0.5, 2) == [0, 1, 6, 7]  # channels were measured by nobody
    assert kept(state, 0.75, 2) == [0, 7]


def test_masks_hold_until_the_next_plan():
    state, found = pruning(), {}
    for number in range(1, 5):
        found[number] = state.mask_for(0.5, number)
        take_up(state, state.planned(plan(number), 0.0), np.eye(8)[number % 4] + np.eye(8)[4])
        assert state.mask_for(0.5, number) == found[number]
        state.finish(number)
        state.begin()
    assert found[2] == found[3] != found[4]


def test_a_pruned_clients_shares_count_on_the_scale_of_what_it_holds():
    state = pruning(smoothing=0.0)
    take_up(state, state.planned(plan(), 0.5), [0.1, 0.2, 0.3, 0.4, 0.25, 0.25, 0.25, 0.25])
    state.finish(1)
    state.begin()
    small = state.planned(plan(2), 0.5)  # holds heads 2 and 3, 0.7 of the whole
    take_up(state, small, [0, 0, 0.9, 0.1, 0.5, 0.5, 0, 0])
    state.finish(2)
    found = state.state()["scores"][:4]
    np.testing.assert_allclose(found, [0.1, 0.2, 0.63, 0.07], atol=1e-3)


def test_an_attempt_that_came_to_nothing_leaves_no_trace():
    state, other = pruning(), pruning()
    take_up(state, state.planned(plan(), 0.5), [1, 0, 0, 0, 1, 0, 0, 0])
    state.begin()
    for each in (state, other):
        take_up(each, each.planned(plan(), 0.5), [0, 0, 0, 1, 0, 0, 0, 1])
        each.finish(1)
    assert all(np.array_equal(state.state()[name], array) for name, array in other.state().items())


def test_it_goes_on_from_its_state():
    state = pruning()
    take_up(state, state.planned(plan(), 0.5), [1, 0, 0, 0, 0.5, 0.5, 0, 0])
    state.finish(1)
    again = pruning()
    again.restore({name: np.array(array) for name, array in state.state().items()})
    assert [again.mask_for(0.5, n) for n in (2, 3)] == [state.mask_for(0.5, n) for n in (2, 3)]


@pytest.mark.parametrize(
    "sections",
    [
        (),
        (Section(SCORES, "fp16", b"12"),),
        (Section(SCORES, "int8", Fp16().encode(np.ones(8, dtype=np.float32))),),
        (Section(SCORES, "fp16", Fp16().encode(np.full(8, 0.9, dtype=np.float32))),),
        (Section(SCORES, "fp16", Fp16().encode(np.array([-1, 1, 0, 0, 0, 0, 0, 0], dtype=np.float32))),),
        (Section(SCORES, "fp16", b"\x00\x7e" * 8),),  # NaN
    ],
)
def test_scores_that_are_none_cost_their_client_the_update(sections):
    state = pruning()
    with pytest.raises(ClientFault, match="c00"):
        state.read(sections, asked(state.planned(plan(), 0.5)))


def test_an_importance_without_sound_scores_is_refused(tmp_path):
    (tmp_path / "bad.py").write_text(
        "class Bad:\n    def begin(self, magnitudes, seed):\n        return [float('nan')]\n"
    )
    with pytest.raises(PluginError, match=r"bad\.py:Bad"):
        pruning(importance={"name": f"{tmp_path}/bad.py:Bad"})


def test_a_measured_importance_begins_with_what_shares_can_be_made_of(tmp_path):
    """Logarithms of magnitudes would all become shares of 0, and the first units would win."""
    begins = "import numpy as np\n\n\nclass Mine:\n    def begin(self, magnitudes, seed):\n        return {}\n"
    measures = "\n    def contributions(self, theta, gradient):\n        return theta\n"
    (tmp_path / "log.py").write_text(begins.format("np.log(magnitudes / 9)") + measures)
    (tmp_path / "plain.py").write_text(begins.format("np.log(magnitudes / 9)"))
    with pytest.raises(PluginError, match="scores below 0"):
        pruning(importance={"name": f"{tmp_path}/log.py:Mine"})
    mask = pruning(importance={"name": f"{tmp_path}/plain.py:Mine"}).mask_for(0.5, 2)
    assert np.flatnonzero(unpack(mask, SIZES)).tolist() == [2, 3, 6, 7]


def reply(of, values):
    return Frame(
        FrameKind.UPDATE,
        "x",
        of.round,
        1,
        of.client,
        body=np.array(values, dtype="<f4").tobytes(),
        codec="fp32",
        weight=2.0,
    )


def test_an_update_is_read_into_the_places_that_its_mask_keeps():
    state, reading = pruning(), DeltaReading(layout(9), UNITS)
    of = state.planned(plan(2), 0.5)
    update = reading.update(reply(of, [1, 2, 3, 4, 5]), asked(of), {})
    assert update.delta.tolist() == [0, 0, 1, 2, 0, 0, 3, 4, 5]
    assert update.held is not None
    assert update.held.places.tolist() == [2, 3, 6, 7, 8]


@pytest.mark.parametrize("count", [0, 4, 6, 9])
def test_an_update_of_another_size_than_its_mask_keeps_is_refused_by_name(count):
    state, reading = pruning(), DeltaReading(layout(9), UNITS)
    of = state.planned(plan(2), 0.5)
    with pytest.raises(ClientFault, match="client c00"):
        reading.update(reply(of, [1.0] * count), asked(of), {})
