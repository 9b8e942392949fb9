"""fp32 and fp16: what is particular to each; the rest is in the contract."""

import doctest

import numpy as np
import pytest

from fedpeft.codecs import MalformedPayload, base
from fedpeft.codecs.fp16 import Fp16
from fedpeft.codecs.fp32 import Fp32


def test_fp32_is_the_vector_little_endian():
    values = np.array([1.0, -0.0, 1e-45], dtype=np.float32)
    assert Fp32().encode(values).hex() == "0000803f" + "00000080" + "01000000"
    assert Fp32().decode(Fp32().encode(values), 3).tobytes() == values.tobytes()


def test_fp16_is_half_precision_little_endian():
    assert Fp16().encode(np.array([1.0, -2.0], dtype=np.float32)).hex() == "003c" + "00c0"


def test_fp16_saturates_and_underflows():
    values = np.array([1e6, -1e6, 65519.0, 65504.0, 2.0**-24, 2.0**-26], dtype=np.float32)
    assert Fp16().decode(Fp16().encode(values), 6).tolist() == [65504, -65504, 65504, 65504, 2.0**-24, 0]


@pytest.mark.parametrize("codec", [Fp32(), Fp16()], ids=lambda codec: codec.name)
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_not_finite_is_refused(codec, value):
    dtype = {"fp32": "<f4", "fp16": "<f2"}[codec.name]
    with pytest.raises(MalformedPayload, match="NaN or infinity"):
        codec.decode(np.array([0.0, value], dtype=dtype).tobytes(), 2)


def test_the_toy_in_the_contract_runs():
    assert doctest.testmod(base) == doctest.TestResults(failed=0, attempted=5)
