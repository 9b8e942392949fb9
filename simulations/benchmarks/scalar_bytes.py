"""Bytes of a zeroth-order round: what goes up for its scalars, and what a client is sent after so many rounds away.

Counted, not timed. Up: the frame's body for 200 steps and, beside it, the whole frame with its header. Down: the body
that tells a client the coefficients of one pool of 4,096 directions that changed while it was away, for cohorts of
several sizes; the whole pool at 2 bytes is the bound. Once more with draws by importance, whose numbers go down too.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator

import numpy as np

from fedpeft.bench import Figure, Goal, main, say

K, STEPS = 4096, 200
SCALARS = {"fp16": 450, "int8": 450, "sign": 64}  # codec -> the most that a body may have
WHOLE = 2 * K + 9  # the pool at 2 bytes, with its digest and form
COHORTS, AWAY = (4, 8, 32), (1, 5, 20, 50)


def measure(quick: bool) -> Iterator[Figure]:
    """Bytes."""
    say("up")
    yield from _up()
    for cohort in COHORTS[1:2] if quick else COHORTS:
        say(f"down, {cohort} clients a round")
        yield from _down(cohort)
    say("down, drawn by importance")
    yield from _down_with_importances(COHORTS[1])


def _up() -> Iterator[Figure]:
    from fedpeft.registry import build
    from fedpeft.types import ClientId
    from fedpeft.wire.frame import Frame, FrameKind, encode_frame

    scalars = np.random.default_rng(0).normal(size=STEPS).astype(np.float32)
    metrics = {"loss_first": 1.4, "loss_last": 1.3, "seconds": 2.5, "replica": 123456789012345.0}
    for name, most in SCALARS.items():
        body = build("codec", name, {}).encode(scalars)
        frame = Frame(FrameKind.UPDATE, "run", 3, 1, ClientId("c07"), body, name, weight=500.0, metrics=metrics)
        for what, size, goals in (
            (name, len(body), [Goal(most)]),
            (f"{name}, the whole frame", len(encode_frame(frame)), []),
        ):
            yield Figure.of(what, size, "B", group=f"up: {STEPS} scalars", goals=goals)


def _down(cohort: int) -> Iterator[Figure]:
    from fedpeft.codecs.coefficients import CoefficientDownlink, WholeNumbers

    downlink, draw = CoefficientDownlink(), np.random.default_rng(0)
    values = np.zeros(K, dtype=np.int32)
    for away in range(1, max(AWAY) + 1):
        for _ in range(cohort):
            moves = np.rint(draw.normal(size=STEPS) * 300).astype(np.int32)
            np.add.at(values, draw.integers(0, K, STEPS), moves)
        if away in AWAY:
            body = downlink.encode_difference(WholeNumbers(values.copy()), downlink.zero(K))
            yield Figure.of(
                f"{away} round{'s' * (away > 1)} away",
                len(body),
                "B",
                group=f"down: {cohort} clients of {STEPS} steps a round, K = {K}",
                goals=[Goal(WHOLE)],
                note=f"{np.count_nonzero(values)} of {K} coefficients changed",
            )


def _down_with_importances(cohort: int) -> Iterator[Figure]:
    from fedpeft.codecs.coefficients import CoefficientDownlink, WholeNumbers
    from fedpeft.zeroth.importance import draw, numbers_of

    downlink, chance = CoefficientDownlink(), np.random.default_rng(0)
    numbers, values = np.zeros(K, dtype=np.int64), np.zeros(K, dtype=np.int64)
    sums, counts = np.zeros(K), np.zeros(K, dtype=np.int64)
    for away in range(1, max(AWAY) + 1):
        for _ in range(cohort):
            scalars = chance.normal(size=STEPS)
            drawn = draw(numbers, chance.integers(0, 2**53, STEPS, dtype=np.uint64), 1.0)
            for total, added in (
                (values, np.rint(scalars * 300).astype(np.int64)),
                (sums, np.abs(scalars)),
                (counts, 1),
            ):
                np.add.at(total, drawn, added)
        numbers = numbers_of(sums, counts)
        if away in AWAY:
            whole = WholeNumbers(np.concatenate([numbers, values]).astype(np.int32))
            yield Figure.of(
                f"{away} round{'s' * (away > 1)} away",
                len(downlink.encode_difference(whole, downlink.zero(2 * K))),
                "B",
                group=f"down, drawn by importance: {cohort} clients of {STEPS} steps a round, K = {K}",
                goals=[Goal(4 * K + 9)],
                note=f"{np.count_nonzero(values)} of {K} coefficients changed, and as many importances",
            )


if __name__ == "__main__":
    sys.exit(main(__file__, measure))
