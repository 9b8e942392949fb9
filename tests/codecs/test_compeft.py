"""ComPEFT: what it sends unsearched, and what it finds where somebody judges."""

from itertools import product

import numpy as np
import pytest

from fedpeft.codecs import MalformedPayload
from fedpeft.codecs.compeft import ALPHAS, DENSITIES, deviation, downhill
from fedpeft.codecs.searching import Searched, SearchingCodec, choice_of, chosen, is_searching
from fedpeft.errors import PluginError
from fedpeft.registry import build

LARGEST = float(np.finfo(np.float32).max)


def codec(name):
    return build("codec", name, {})


def gaussian(size=4000, seed=0):
    return np.random.default_rng([seed, size]).standard_normal(size).astype(np.float32)


def distance(target):
    """Judges by the squared distance from a target, and keeps what it was asked."""

    def judge(vector):
        judge.asked.append(vector.copy())
        return float(np.square(vector.astype(np.float64) - target).sum())

    judge.asked = []
    return judge


def fixed(density, alpha, values):
    return codec(f"compeft({density:g},{alpha:g})").through(values)


# --- what is sent ---


@pytest.mark.parametrize(("density", "alpha"), [(0.05, 1.0), (0.3, 2.0), (1.0, 0.5)])
def test_told_both_it_sends_signs_of_the_largest_times_alpha_sigma(density, alpha):
    values = gaussian()
    decoded = fixed(density, alpha, values)[1]
    kept = np.argsort(-np.abs(values), kind="stable")[: round(density * values.size)]
    wanted = np.zeros(values.size)
    wanted[kept] = np.sign(values[kept]) * alpha * np.sqrt(np.mean(np.square(values, dtype=np.float64)))
    np.testing.assert_allclose(decoded, wanted, rtol=1e-6)


def test_unsearched_it_sends_a_fifth_with_the_scale_of_least_squared_error():
    values = gaussian()
    body, _ = codec("compeft").through(values)
    assert body[1:] == codec("topk(0.2)+sign").encode(values)
    assert codec("compeft(0.2)").encode(values)[1:] == body[1:]
    assert codec("compeft(alpha=2)").encode(values)[1:] == codec("compeft(0.2,2)").encode(values)[1:]


def test_sigma_is_about_zero_and_neither_overflows_nor_vanishes():
    assert deviation(np.full(8, 3.0, dtype=np.float32)) == pytest.approx(3.0)
    assert deviation(np.full(8, LARGEST, dtype=np.float32)) == pytest.approx(LARGEST)
    assert deviation(np.full(8, 1e-45, dtype=np.float32)) > 0
    assert deviation(np.zeros(8, dtype=np.float32)) == deviation(np.empty(0, dtype=np.float32)) == 0


def test_a_scale_beyond_fp32_is_its_largest():
    decoded = fixed(0.5, 100, np.array([LARGEST, 0.0], dtype=np.float32))[1]
    assert decoded.tolist() == [LARGEST, 0.0]


def test_a_body_of_any_density_is_read_without_being_told_which():
    values, reader = gaussian(), codec("compeft")
    for place, density in enumerate(DENSITIES):
        body, decoded = fixed(density, 1.0, values)
        assert reader.decode(bytes([place]) + body[1:], values.size).tobytes() == decoded.tobytes()
        assert len(body) <= reader.max_bytes(values.size)


@pytest.mark.parametrize("body", [b"", b"\x05", b"\xff" * 40])
def test_a_density_that_is_none_is_refused(body):
    with pytest.raises(MalformedPayload, match="malformed compeft payload") as caught:
        codec("compeft").decode(body, 100)
    assert "below 5" in caught.value.allowed


def test_another_density_than_the_body_s_is_refused():
    body = codec("compeft").encode(gaussian())
    for place in (0, 1, 3, 4):
        with pytest.raises(MalformedPayload):
            codec("compeft").decode(bytes([place]) + body[1:], 4000)


# --- names ---


def test_what_is_left_out_is_what_is_searched():
    names = {"compeft": True, "compeft(0.1)": True, "compeft(alpha=2)": True, "compeft(0.1,2)": False}
    for name, searches in names.items():
        made = codec(name)
        assert (made.name, is_searching(made), isinstance(made, SearchingCodec)) == (name, searches, searches)
    assert codec("compeft(alpha=2, density=0.1)").name == "compeft(0.1,2)"


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("compeft(0)", "density = 0.0 must be above 0 and at most 1"),
        ("compeft(1.5,2)", "density = 1.5 must be above 0 and at most 1"),
        ("compeft(nan)", "density = nan must be above 0 and at most 1"),
        ("compeft(0.1,0)", "alpha = 0.0 must be above 0 and at most 100"),
        ("compeft(alpha=101)", "alpha = 101.0 must be above 0 and at most 100"),
        ("compeft(0.1,2,3)", '"compeft" takes 2 values, and 3 are given'),
        ("compeft(k=0.1)", "has no parameter k"),
        ("rotate+compeft", '"compeft" has something left to search, and behind "rotate"'),
        ("topk(0.5)+compeft(0.1)", '"compeft(0.1)" has something left to search, and behind "topk"'),
    ],
)
def test_a_wrong_name_is_one_error(name, words):
    with pytest.raises(PluginError) as caught:
        codec(name)
    assert words in caught.value.message
    assert caught.value.remedy


def test_behind_another_stage_it_is_told_everything():
    assert not is_searching(codec("rotate+compeft(0.1,2)"))
    assert is_searching(codec("forget+compeft"))
    assert not is_searching(codec("forget+compeft(0.1,2)"))


# --- the search ---


@pytest.mark.parametrize("density", DENSITIES)
@pytest.mark.parametrize("alpha", [0.5, 2.0, 6.0, 10.0])
def test_it_finds_the_pair_that_made_the_target(density, alpha):
    """Without error feedback; the target is what one pair decodes to, so it costs nothing and all others more."""
    values = gaussian()
    judge = distance(fixed(density, alpha, values)[1])
    found = codec("compeft").search(values, judge, owed=False)
    assert found.choice == {"density": density, "alpha": alpha}
    assert len(judge.asked) < 36  # of 45


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("owed", [False, True])
def test_on_a_quadratic_it_is_as_good_as_all_pairs(seed, owed):
    values = gaussian(seed=seed)
    judge = distance((0.2 + seed) * values + 2 * gaussian(seed=seed + 100))
    found = codec("compeft").search(values, judge, owed=owed)
    costs = {}
    for density, alpha in product(DENSITIES, ALPHAS):
        decoded = fixed(density, alpha, values)[1]
        if not owed or np.linalg.norm(values - decoded) <= np.linalg.norm(values):
            costs[density, alpha] = judge(decoded)
    assert (found.choice["density"], found.choice["alpha"]) == min(costs, key=costs.get)
    assert judge(found.decoded) == min(costs.values())


def test_what_was_found_is_what_is_decoded():
    values = gaussian()
    made = codec("compeft")
    found = made.search(values, distance(3 * values), owed=True)
    assert made.decode(found.body, values.size).tobytes() == found.decoded.tobytes()
    assert len(found.body) <= made.max_bytes(values.size)


def test_where_what_is_lost_is_owed_nothing_loses_more_than_there_is():
    values = gaussian()
    judge = distance(50 * values)  # the larger, the better
    wild = codec("compeft").search(values, judge, owed=False)
    assert wild.choice == {"density": 0.5, "alpha": 10.0}
    judge.asked.clear()
    tame = codec("compeft").search(values, judge, owed=True)
    assert np.linalg.norm(values - tame.decoded) < np.linalg.norm(values) < np.linalg.norm(values - wild.decoded)
    assert all(np.linalg.norm(values - asked) <= np.linalg.norm(values) * (1 + 1e-6) for asked in judge.asked)


def test_of_equal_costs_the_sparsest_is_taken():
    assert codec("compeft").search(gaussian(), lambda vector: 1.0, owed=True).choice["density"] == DENSITIES[0]


def test_only_what_is_left_open_is_searched():
    values = gaussian()
    judge = distance(fixed(0.1, 3.0, values)[1])
    assert codec("compeft(0.2)").search(values, judge, owed=False).choice["density"] == 0.2
    found = codec("compeft(alpha=3)").search(values, judge, owed=True)
    assert found.choice == {"density": 0.1, "alpha": 3.0}
    judge.asked.clear()
    codec("compeft(alpha=3)").search(values, judge, owed=False)
    assert len(judge.asked) == len(DENSITIES)


@pytest.mark.parametrize("cost", [np.nan, np.inf])
def test_where_nothing_can_be_judged_it_is_sent_unsearched(cost):
    values = gaussian()
    found = codec("compeft").search(values, lambda vector: cost, owed=True)
    assert found.body == codec("compeft").encode(values)
    assert found.choice["density"] == 0.2
    assert found.choice["alpha"] == pytest.approx(float(np.abs(found.decoded).max()) / deviation(values))


def test_a_cost_that_is_not_finite_is_worse_than_any_that_is():
    values = gaussian()

    def judge(vector):
        return np.nan if np.count_nonzero(vector) > 300 else 5.0

    assert codec("compeft").search(values, judge, owed=True).choice["density"] == 0.05


def test_one_large_value_leaves_no_pair_that_is_owed_little():
    values = np.zeros(100_000, dtype=np.float32)
    values[7] = 5.0
    judge = distance(values)
    found = codec("compeft").search(values, judge, owed=True)
    assert found.body == codec("compeft").encode(values)
    assert not judge.asked


def test_zeros_are_searched_and_stay_zeros():
    found = codec("compeft").search(np.zeros(100, dtype=np.float32), lambda vector: 1.0, owed=True)
    assert not found.decoded.any()


@pytest.mark.parametrize("start", range(9))
@pytest.mark.parametrize("valley", range(9))
def test_downhill_finds_the_valley_from_anywhere(start, valley):
    asked = []

    def cost(place):
        asked.append(place)
        return abs(place - valley)

    assert downhill(cost, 9, start) == (valley, 0)
    assert len(asked) == len(set(asked)) <= abs(start - valley) + 3


# --- with its judge, as a codec ---


def test_with_a_judge_it_is_a_codec_that_remembers_what_it_chose():
    values = gaussian()
    judged = Searched(codec("compeft"), distance(fixed(0.3, 1.0, values)[1]))
    assert choice_of(judged) == {}
    body = judged.encode(values)
    assert judged.decode(body, values.size).tobytes() == fixed(0.3, 1.0, values)[1].tobytes()
    assert choice_of(judged) == {"codec.density": 0.3, "codec.alpha": 1.0}
    assert chosen({"loss_last": 1.0, **choice_of(judged)}) == {"density": 0.3, "alpha": 1.0}
    assert choice_of(codec("int8")) == {}


def test_forget_goes_without_the_bound():
    values = gaussian()
    judged = Searched(codec("forget+compeft"), distance(50 * values))
    judged.encode(values)
    assert judged.choice == {"density": 0.5, "alpha": 10.0}
    assert not judged.owes
