"""What the codecs of updates cost and save, on a real LoRA delta.

The delta is a MiniLM client's, made here: ten AdamW steps of 8 × 64 tokens, rank 32 on all linear layers, 5.4 MB in
fp32; `--delta FILE` takes a saved one instead, `--delta AFTER --since BEFORE` what lies between two adapters
(`fedpeft/bench/saved_delta.py`). Encoding and decoding in MB of fp32 input a second, CPU time of one core; beside them
zstd at level 3 on the fp16 bytes, as a general compressor would do it, and a plain copy of the fp32 bytes as the limit.
Bytes are those of the encoded body; the error is the relative L2 error of what comes back.

No code of b bits a value brings independent Gaussian values back with a smaller error than 2^-b (Shannon 1959), so
beside its bits stands how many times the bits of that bound a codec takes for the error that it makes. Below 1 is what
knows that the values are not independent: the matrices of a delta are of few directions. The codec that loses least is
named for rates from a sixteenth of a bit to eight bits a value, and the smallest for errors of 1 % to 80 %. Ternary
vectors stand beside the entropy of their places and signs (`ternary.py`).
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from fedpeft.bench import Figure, Goal, interleaved, main, say
from fedpeft.bench.saved_delta import read_delta
from fedpeft.bench.timing import repeated
from fedpeft.errors import FedpeftError
from fedpeft.types import Layout
from simulations.benchmarks.ternary import ternary_figures

CODECS = (
    *("fp32", "fp16", "bf16", "int8", "int4", "int4(dither)", "rotate+int4"),
    *("sign", "sign(64)", "bitdelta", "rotate+sign"),
    *("uniform(0.3)+zstd", "uniform(0.3)+ans", "uniform(1.1)+zstd", "uniform(1.1)+ans"),
    *("topk(0.1)+fp16", "topk(0.1)+sign", "topk(0.1)+sign(64)", "topk(0.01)+sign", "sketch(0.25)+int8"),
    *("lowrank(4)+fp16", "lowrank(4)+int8", "lowrank(4)+int4", "lowrank(4)+uniform(0.3)+ans", "lowrank(1)+int4"),
    *("lgreco(0.1)+ans", "lgreco(0.33)+ans", "lgreco(0.33)+zstd"),
    *("lgreco(bits=1)+ans", "lgreco(bits=0.25)+ans", "lgreco(bits=0.0625)+ans"),
)
AGAINST_PEER = {"int8": 0.7, "int4": 0.7, "topk(0.1)+sign": 0.7}
"""Speed of encoding, in that of the peer."""
SMALLER = {
    "uniform(1.1)+ans": 15.0,
    "uniform(0.3)+ans": 7.5,
    "topk(0.1)+sign": 50.0,
    "lgreco(0.33)+ans": 15.0,
    "lgreco(0.1)+ans": 7.5,
}
"""Times smaller than fp32."""
ERRORS = (0.01, 0.1, 0.33, 0.8)
RATES = (0.0625, 0.25, 0.5, 1, 2, 4, 8)  # bits a value
BOUND = "bits against the bound of its error"
PEER, LIMIT = "zstd-3 on fp16", "limit: copy"
STEPS, RANK = 10, 32


def measure(quick: bool, delta: Path | None = None, since: Path | None = None) -> list[Figure]:
    """MB/s, bits a value, relative error; of a delta trained here, or of a saved one."""
    import torch

    torch.set_num_threads(1)
    say("a client's delta" if delta is None else f"reads {delta}")
    values, layout = make_delta(2 if quick else STEPS) if delta is None else read_delta(delta, since)
    repeats, times = (2, 1) if quick else (7, 1)
    say("encode and decode")
    encoders, decoders, bodies, refused = contenders(values, layout)
    megabytes = values.nbytes / 1e6
    figures = []
    for what, work in (("encode", encoders), ("decode", decoders)):
        samples = interleaved({name: repeated(call, times) for name, call in work.items()}, repeats=repeats)
        for name, seconds in samples.items():
            own = name in CODECS
            sought = AGAINST_PEER.get(name) if what == "encode" else None
            goals = [Goal(sought, PEER), Goal(None, LIMIT)] if own else []
            figures.append(
                Figure.of(
                    name,
                    [megabytes * times / taken for taken in seconds],
                    "MB/s",
                    group=f"{what}, {values.size:,} values",
                    better="higher",
                    role="own" if own else "limit" if name == LIMIT else "peer",
                    goals=goals,
                )
            )
    return figures + _sizes(values, bodies, decoders, refused) + ternary_figures(values)


def make_delta(steps: int) -> tuple[Any, Layout]:
    """What so many steps change, fp32 of shape (d,), and its tensors."""
    from fedpeft.training import SequentialTrainer
    from simulations.benchmarks.workload import SHAPES, Shape, encoder, jobs, run_all

    adapter, task = encoder(r=RANK, lora_alpha=2 * RANK, target_modules="all-linear")
    shape = SHAPES[0]
    [job] = jobs(adapter, 1, Shape(shape.examples * steps, shape.tokens), steps=steps)
    job = replace(job, plan=replace(job.plan, batch_size=shape.examples))
    [delta] = run_all(SequentialTrainer(adapter, task), [job])
    return delta, adapter.layout


def contenders(
    delta: Any, layout: Layout
) -> tuple[dict[str, Callable[[], object]], dict[str, Callable[[], object]], dict[str, bytes], dict[str, str]]:
    """Encoders and decoders by name, what each encoder wrote, and why others are not there."""
    import numpy as np
    import zstandard

    from fedpeft.codecs import fitted
    from fedpeft.registry import build

    size, target = delta.size, np.empty_like(delta)
    packer, opener = zstandard.ZstdCompressor(level=3), zstandard.ZstdDecompressor()
    encoders: dict[str, Callable[[], Any]] = {}
    decoders: dict[str, Callable[[], object]] = {}
    refused: dict[str, str] = {}
    for name in CODECS:
        try:
            codec = fitted(build("codec", name, {}), layout)
        except FedpeftError as error:  # a package that is not installed, a budget too small for a small delta
            refused[name] = error.message
            continue
        body = codec.encode(delta)
        encoders[name] = partial(codec.encode, delta)
        decoders[name] = partial(codec.decode, body, size)
    encoders[PEER] = lambda: packer.compress(delta.astype("<f2").tobytes())
    packed = encoders[PEER]()
    decoders[PEER] = lambda: np.frombuffer(opener.decompress(packed), "<f2").astype(np.float32)
    bodies = {name: encode() for name, encode in encoders.items()}
    encoders[LIMIT] = decoders[LIMIT] = lambda: np.copyto(target, delta)
    return encoders, decoders, bodies, refused


def _sizes(
    delta: Any, bodies: dict[str, bytes], decoders: dict[str, Callable[[], object]], refused: dict[str, str]
) -> list[Figure]:
    import numpy as np

    figures, bounds, lost, found = [], [], [], []
    for name, body in bodies.items():
        back: Any = decoders[name]()
        error = float(np.linalg.norm(back - delta) / np.linalg.norm(delta))
        own, bits = name in CODECS, 8 * len(body) / delta.size
        found.append((bits, error, name))
        goals = [Goal(SMALLER[name], "fp32")] if name in SMALLER else [Goal(None, PEER)] if own else []
        about: dict[str, Any] = {"role": "own" if own else "peer", "note": f"relative error {error:.2g}"}
        figures.append(Figure.of(name, bits, "bits a value", group="size of the body", goals=goals, **about))
        if 0 < error < 1:
            over = bits / -np.log2(error)
            bounds.append(Figure.of(name, over, "times the bound", group=BOUND, **about))
            about["across"] = ("bits a value", bits)
            lost.append(Figure.of(name, error, "relative error", group="error at a size", **about))
    for name, reason in refused.items():
        goals = [Goal(SMALLER[name], "fp32")] if name in SMALLER else []
        figures.append(Figure.missing(name, reason, "bits a value", group="size of the body", role="own", goals=goals))
    return figures + bounds + lost + _bound() + _smallest(found) + _nearest(found)


def _bound() -> list[Figure]:
    """2^-bits, as a curve beside the codecs."""
    about: dict[str, Any] = {"group": "error at a size", "role": "limit"}
    return [
        Figure.of(f"bound at {rate:g} bits", 2**-rate, "relative error", across=("bits a value", rate), **about)
        for rate in (*RATES, 12)
    ]


def _smallest(found: list[tuple[float, float, str]]) -> list[Figure]:
    """For each error the codec of the fewest bits."""
    figures = []
    for most in ERRORS:
        bits, _, name = min(one for one in found if one[1] <= most)
        about: dict[str, Any] = {
            "group": "smallest for an error",
            "note": f"{name}, {32 / bits:.3g} times smaller than fp32",
        }
        figures.append(Figure.of(f"at most {100 * most:g} %", bits, "bits a value", **about))
    return figures


def _nearest(found: list[tuple[float, float, str]]) -> list[Figure]:
    """For each rate the codec of the smallest error, beside 2^-rate."""
    figures = []
    for rate in RATES:
        fitting = [(error, bits, name) for bits, error, name in found if bits <= rate * 1.001]
        if not fitting:  # of a small delta the heads alone take more
            continue
        error, bits, name = min(fitting)
        note = f"{name} with {bits:.3g}; the bound is {2**-rate:.2g}"
        about: dict[str, Any] = {"group": "smallest error at a rate", "note": note}
        figures.append(Figure.of(f"at most {rate:g} bits", error, "relative error", **about))
    return figures


if __name__ == "__main__":
    sys.exit(main(__file__, measure))
