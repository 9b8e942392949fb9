"""The same bytes, however many threads the libraries below may use."""

import os
import subprocess
import sys

PROGRAM = """
import hashlib
import numpy as np
from fedpeft.codecs import fitted
from fedpeft.codecs.base import through
from fedpeft.codecs.lgreco import _squared
from fedpeft.registry import build
from fedpeft.types import Layout, TensorSpec

layout = Layout((TensorSpec("a", (256, 192), 0), TensorSpec("b", (24, 256), 49152)), 55296, "")
values = np.random.default_rng(0).standard_normal(layout.size).astype(np.float32)
print(_squared(values.astype(np.float64)).hex())
for name in ("lowrank(4)+fp32", "lgreco(0.3)+zstd", "int8", "int8(dither)", "uniform(0.3)+zstd"):
    codec = fitted(build("codec", name, {}), layout)
    body = codec.encode(values)
    print(name, *(hashlib.sha256(told).hexdigest() for told in (body, codec.decode(body, layout.size).tobytes())))
"""


def printed(threads):
    told = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), str(threads))
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], env=os.environ | told, capture_output=True, text=True, check=True, timeout=120
    )
    return done.stdout.splitlines()


def test_one_thread_and_two_make_the_same_bytes():
    one = printed(1)
    assert len(one) == 6
    assert printed(2) == one
