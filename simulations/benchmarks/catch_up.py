"""Bytes that tell a zeroth-order client of so many rounds that it was away: coefficients against a checkpoint.

Counted, not timed, on 36,864 weights (LoRA of rank 4: half of them begin as noise, half as 0) with K = 4,096 and five
rounds an epoch. The coefficients are those that a client lacks, the checkpoint stands for all closed epochs; the
coordinator sends the shorter one (`zeroth.checkpoint` = 1). Then what θ_e costs a weight, by how far weights have
moved, and the CPU time from the body to the model for a client that is new after 100 epochs.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator

import numpy as np

from fedpeft.bench import Figure, Goal, main, say
from fedpeft.types import FloatArray

K, REFRESH, WEIGHTS = 4096, 5, 36_864
LEARNING_RATE, SLOPE, RESOLUTION = 4e-3, 1.5, 8  # of a step, the size of g, units in a rate: 2^8
FLEETS = ((8, 200), (32, 200), (8, 20))  # clients a round, steps of each
AWAY = (10, 20, 100, 500)
NOISE = 0.05  # of the weights that do not begin as 0
MOVED = (1e-6, 1e-4, 1e-2)  # of a weight's size
PIECE = 1 << 20


def measure(quick: bool) -> Iterator[Figure]:
    """Bytes, bytes a weight, and seconds."""
    away = AWAY[:-1] if quick else AWAY
    for cohort, steps in FLEETS[:1] if quick else FLEETS:
        say(f"{cohort} clients of {steps} steps a round")
        yield from _fleet(cohort, steps, away)
    say("bytes a weight")
    yield from _a_weight()
    say("from the body to the model")
    for pool in ("hadamard",) if quick else ("hadamard", "independent"):
        yield from _seconds(pool, 20 if quick else 100)


def begun() -> FloatArray:
    """θ_0, shape (d,)."""
    theta = np.zeros(WEIGHTS, dtype=np.float32)
    theta[::2] = np.random.default_rng(7).normal(0, NOISE, WEIGHTS // 2)
    return theta


def _fleet(cohort: int, steps: int, away: tuple[int, ...]) -> Iterator[Figure]:
    from fedpeft.codecs.coefficients import CoefficientDownlink, WholeNumbers
    from fedpeft.registry import build
    from fedpeft.server.catch_up import Checkpoints, CheckpointSettings
    from fedpeft.zeroth.coordinates import Coordinates
    from fedpeft.zeroth.replica import Replica

    group = f"{cohort} clients of {steps} steps a round"
    coordinates = Coordinates(K, max(away) // REFRESH + 2, REFRESH, LEARNING_RATE * 2.0**-RESOLUTION, 1, seed=1)
    replica = Replica(begun(), build("pool", "hadamard", {"size": K, "seed": 1}), coordinates)
    coordinator = Checkpoints(CheckpointSettings(coordinates, replica.initial, replica.after, np.inf, 10**12))
    downlink, draw = CoefficientDownlink(K), np.random.default_rng(0)
    new = nothing = downlink.zero(coordinates.length)
    for number in range(1, max(away) + 1):
        values, before = new.values.copy(), new
        places = coordinates.begin(coordinates.epoch(number)) + draw.integers(0, K, cohort * steps)
        size = SLOPE * 2**RESOLUTION / cohort
        np.add.at(values, places, np.rint(draw.normal(0, size, cohort * steps)).astype(np.int32))
        new = WholeNumbers(values)
        coordinator.publish(number, new, before, ())
        if number not in away:
            continue
        since = f"{number} rounds away"
        coefficients = len(downlink.encode_difference(new, nothing))
        checkpoint = len(coordinator.body(new, nothing, coefficients) or b"")
        yield Figure.of(f"{since}, coefficients", coefficients, "B", group=group)
        bound = Goal(4.1 * WEIGHTS + 2 * K)
        yield Figure.of(f"{since}, checkpoint", checkpoint, "B", group=group, goals=[bound])


def _a_weight() -> Iterator[Figure]:
    from fedpeft.codecs.weights import pack

    draw = np.random.default_rng(3)
    theta = draw.normal(0, NOISE, PIECE).astype(np.float32)
    for share in MOVED:
        moved = theta + draw.normal(0, share * NOISE, PIECE).astype(np.float32)
        about = f"moved by {share:g} of its size"
        size = len(pack(moved, theta)) / PIECE
        yield Figure.of(about, size, "B", group="a weight of a checkpoint; 4 B as fp32", goals=[Goal(4.0)])


def _seconds(pool: str, epochs: int) -> Iterator[Figure]:
    from fedpeft.codecs.coefficients import CoefficientDownlink, WholeNumbers
    from fedpeft.codecs.weights import pack
    from fedpeft.registry import build
    from fedpeft.zeroth.checkpoint import digest_of
    from fedpeft.zeroth.coordinates import Coordinates
    from fedpeft.zeroth.replica import Replica

    coordinates = Coordinates(K, epochs + 1, REFRESH, LEARNING_RATE * 2.0**-RESOLUTION, 1, seed=1)
    values = np.rint(np.random.default_rng(2).normal(0, 200, coordinates.length)).astype(np.int32)
    new, theta = WholeNumbers(values), begun()

    def client() -> Replica:
        return Replica(theta, build("pool", pool, {"size": K, "seed": 1}), coordinates)

    downlink = CoefficientDownlink(K, 0, theta)
    closed = client().after(downlink.dequantise(new), epochs)
    bodies = {
        "coefficients": downlink.encode_difference(new, downlink.zero(len(values))),
        "checkpoint": downlink.encode_checkpoint(new, epochs, digest_of(closed), pack(closed, theta)),
    }
    hashes = set()
    for name, body in bodies.items():
        replica, began = client(), time.process_time()
        codes = downlink.decode_difference(body, downlink.zero(len(values)))
        start = downlink.dequantise(codes)
        if codes.theta is not None:
            replica.begin_from(start, codes.theta)
        replica.theta(start)
        seconds = time.process_time() - began
        hashes.add(replica.digest(start))
        yield Figure.of(name, 1e3 * seconds, "ms", group=f"to the model, {epochs} closed epochs, pool {pool}")
    if len(hashes) > 1:
        raise AssertionError("the two forms do not end in the same model")


if __name__ == "__main__":
    sys.exit(main(__file__, measure))
