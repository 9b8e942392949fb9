import numpy as np
import pytest

from fedpeft.layouts import make_layout
from simulations.benchmarks import codecs


@pytest.fixture
def few(monkeypatch):
    monkeypatch.setattr(codecs, "CODECS", ("int8", "topk(0.1)+sign", "lgreco(bits=0.0625)+zstd"))
    monkeypatch.setattr(codecs, "SMALLER", {})
    delta = np.random.default_rng(0).normal(size=40).astype(np.float32)
    return delta, make_layout({"vector": (40,)})


def test_a_codec_that_has_no_way_with_a_small_delta_is_missing_and_the_rest_goes_on(few):
    encoders, decoders, bodies, refused = codecs.contenders(*few)
    assert list(bodies) == ["int8", "topk(0.1)+sign", codecs.PEER]
    assert encoders.keys() == decoders.keys() == {*bodies, codecs.LIMIT}
    assert "too few to send one" in refused["lgreco(bits=0.0625)+zstd"]


def test_a_rate_that_no_codec_keeps_has_no_best(few):
    assert [figure.name for figure in codecs._nearest([(3.0, 0.1, "a"), (1.5, 0.4, "b")])] == [
        "at most 2 bits",
        "at most 4 bits",
        "at most 8 bits",
    ]


def test_a_saved_delta_is_what_is_measured(few, tmp_path, monkeypatch):
    monkeypatch.setattr(codecs, "interleaved", lambda contenders, repeats: {name: [1.0, 1.0] for name in contenders})
    monkeypatch.setattr(codecs, "ERRORS", ())
    np.save(tmp_path / "after.npy", few[0])
    np.save(tmp_path / "before.npy", 2 * few[0])
    figures = codecs.measure(True, tmp_path / "after.npy")
    assert {"encode, 40 values", "size of the body", "error at a size"} <= {figure.group for figure in figures}
    [refused] = [figure for figure in figures if figure.name.startswith("lgreco")]
    assert "too few to send one" in refused.note
    [kept] = [figure for figure in figures if (figure.name, figure.group) == ("int8", "size of the body")]
    assert kept.value == 8 * len(codecs.contenders(*few)[2]["int8"]) / 40
    assert {figure.group for figure in codecs.measure(True, tmp_path / "after.npy", tmp_path / "before.npy")} >= {
        "encode, 40 values"
    }
