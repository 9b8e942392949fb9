"""Error feedback tried out before a run: what grows, and what does not."""

import numpy as np
import pytest

from fedpeft.codecs.growth import growth, lost_at_once
from fedpeft.errors import PluginError
from fedpeft.registry import build


def grows(name, **options):
    return growth(build("codec", name, {}), **options)


@pytest.mark.parametrize(
    ("name", "least"),
    [
        ("relax(1.9)+uniform(2)+zstd", 5),
        ("relax(1.9)+compeft(0.5,2)", 1000),
        ("relax(1.9)+lowrank(4)+uniform(2)+zstd", 100),  # only where there are matrices
        ("compeft(0.5,3)", 10),
    ],
)
def test_what_sends_too_far_owes_ever_more(name, least):
    assert least < grows(name)
    assert grows(name, rounds=20) < 1.2 * grows(name)


@pytest.mark.parametrize(
    ("name", "most"),
    [
        ("fp32", 0),
        ("int8", 0.002),
        ("relax(1.5)+topk(0.1)+sign", 0.3),
        ("relax(1.5)+topk(0.045)+sign", 0.45),
        ("relax(1.5)+topk(0.01)+sign", 0.75),
        ("relax(1.9)+lowrank(2)+int8", 0.8),
        ("compeft(0.045,3.5)", 0.6),
        ("relax(1.99)+topk(0.001)+sign", 1.02),
    ],
)
def test_what_never_loses_more_than_there_is_owes_less_than_if_nothing_were_sent(name, most):
    assert grows(name) <= most


def test_nothing_sent_is_one():
    class Nothing:
        name, max_bytes, nominal_bytes = "nothing", None, None

        def encode(self, values):
            return b""

        def decode(self, body, size):
            return np.zeros(size, np.float32)

    assert growth(Nothing()) == pytest.approx(1)
    assert lost_at_once(Nothing()) == pytest.approx(1)


@pytest.mark.parametrize("name", ["compeft(0.5,2.6)", "relax(1.9)+lowrank(4)+sign"])
def test_one_round_does_not_tell(name):
    """Both lose more than there is of a Gaussian vector, and less of what they then owe."""
    assert lost_at_once(build("codec", name, {})) > 1 > grows(name)


def test_what_overflows_is_infinite_and_no_warning():
    class Far:
        name, max_bytes, nominal_bytes = "far", None, None

        def encode(self, values):
            return values.tobytes()

        def decode(self, body, size):
            values = np.frombuffer(body, np.float32)
            return np.where(values > 0, np.float32(-3e38), np.float32(3e38))

    assert growth(Far()) > 1e3


def test_a_budget_of_too_few_bytes_is_an_error():
    with pytest.raises(PluginError, match="too few to send one of them"):
        grows("lgreco(bits=0.05)+zstd")
