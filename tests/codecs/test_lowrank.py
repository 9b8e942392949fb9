"""Power iteration against the best approximation there is, and what goes as it is."""

import numpy as np
import pytest

from fedpeft.codecs import MalformedPayload, fitted
from fedpeft.codecs.lowrank import factors
from fedpeft.errors import PluginError
from fedpeft.registry import build
from fedpeft.types import Layout, TensorSpec


def layout_of(*shapes):
    tensors, offset = [], 0
    for number, shape in enumerate(shapes):
        tensors.append(TensorSpec(f"t{number}", shape, offset))
        offset += tensors[-1].size
    return Layout(tuple(tensors), offset, "")


def codec_of(name, *shapes):
    return fitted(build("codec", name, {}), layout_of(*shapes))


def normal(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def relative(found, wanted):
    return np.linalg.norm(found - wanted) / np.linalg.norm(wanted)


def of_rank(rank, n, m, scale=1e-3):
    return (normal(n, rank) @ normal(rank, m, seed=1) * np.float32(scale)).reshape(-1)


def test_a_matrix_of_that_rank_comes_back_as_the_inner_codec_lets_it():
    values = of_rank(3, 40, 60)
    codec = codec_of("lowrank(3)+fp32", (40, 60))
    body = codec.encode(values)
    assert len(body) == 4 + 4 * 3 * 100
    assert relative(codec.decode(body, 2400), values) < 1e-6
    assert (
        relative(codec_of("lowrank(3)+int8", (40, 60)).decode(_through("lowrank(3)+int8", values), 2400), values) < 0.02
    )


def _through(name, values):
    return codec_of(name, (40, 60)).encode(values)


@pytest.mark.parametrize("shape", [(32, 384), (384, 32), (100, 100)])
def test_three_iterations_are_within_two_percent_of_the_best(shape):
    """Even of Gaussian values, whose directions are the hardest to tell apart."""
    values = normal(*shape)
    singular = np.linalg.svd(values, compute_uv=False)
    best = np.sqrt((singular[4:] ** 2).sum() / (singular**2).sum())
    codec = codec_of("lowrank(4)+fp32", shape)
    error = relative(codec.decode(codec.encode(values.reshape(-1)), values.size), values.reshape(-1))
    assert best - 1e-6 <= error < 1.02 * best


def test_vectors_and_small_matrices_go_as_they_are():
    shapes = ((7,), (4, 4), (30, 20), (1,), (2, 3, 50))
    values = np.concatenate([normal(7), normal(16), of_rank(2, 30, 20), normal(1), of_rank(2, 2, 150)])
    codec = codec_of("lowrank(2)+fp32", *shapes)
    body = codec.encode(values)
    # (4, 4) would take 16 values, and (2, 150) more than it has
    assert len(body) == 4 + 4 * (7 + 16 + 2 * 50 + 1 + 300)
    np.testing.assert_allclose(codec.decode(body, values.size), values, rtol=1e-4, atol=1e-8)


def test_tensors_of_more_dimensions_are_matrices_of_their_first():
    values = of_rank(1, 20, 36)
    codec = codec_of("lowrank(1)+fp32", (20, 4, 3, 3))
    assert relative(codec.decode(codec.encode(values), 720), values) < 1e-6


def test_both_factors_are_of_one_length():
    p, q = factors(normal(50, 80), 4)
    np.testing.assert_allclose(np.linalg.norm(p, axis=0), np.linalg.norm(q, axis=0), rtol=1e-9)


@pytest.mark.parametrize("scale", [1e-44, 1e-30, 1e30, 3e38])
def test_no_product_overflows_or_vanishes(scale):
    values = np.clip(of_rank(1, 40, 60, scale=1.0), -1, 1).astype(np.float64) * scale
    values = values.astype(np.float32)
    codec = codec_of("lowrank(2)+fp32", (40, 60))
    found = codec.decode(codec.encode(values), 2400)
    assert np.isfinite(found).all()
    if scale > 1e-40:
        assert relative(found / scale, values / scale) < 0.7


def test_factors_that_multiply_beyond_fp32_stay_at_its_end():
    codec = codec_of("lowrank(1)+fp32", (3, 5))
    body = codec.encode(np.zeros(15, dtype=np.float32))[:4] + np.full(8, 3e38, "<f4").tobytes()
    assert codec.decode(body, 15).tolist() == [float(np.finfo(np.float32).max)] * 15


def test_another_length_is_refused_by_the_whole_name():
    codec = codec_of("lowrank(2)+int8", (30, 20))
    with pytest.raises(MalformedPayload, match=r"malformed lowrank\(2\)\+int8 payload: it is of another number"):
        codec.decode(b"\x00" * 100, 600)


@pytest.mark.parametrize("rank", ["0", "1.5", "-1", "2000", "nan"])
def test_a_rank_that_is_none_is_refused(rank):
    with pytest.raises(PluginError, match=r"rank = .* must be a whole number from 1 to 1024"):
        build("codec", f"lowrank({rank})+int8", {})
