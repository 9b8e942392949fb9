"""Keys of `[zeroth]` that are sound one by one and mean nothing together."""

from __future__ import annotations

from functools import cache

import numpy as np

from fedpeft.codecs import Codec
from fedpeft.config import RunConfig
from fedpeft.errors import ConfigError
from fedpeft.registry import build
from fedpeft.simulation.class_codecs import upward
from fedpeft.strategies import Strategy
from fedpeft.strategies.sign_vote import SignVote
from fedpeft.training.zeroth.record import ZerothSettings
from fedpeft.zeroth.optimizers import CoefficientOptimizer

_STAYED, _VOTED = 0, 1  # the largest that a codec makes of zeros between ones, and of ±1
_MOVED, _ENLARGED = 0.01, 1.01
"""Of what is 0, and of what is 1: more is another step, or is refused by the coordinator."""


@cache
def _played(name: str) -> tuple[float, float]:
    """What a codec makes of 200 scalars: the largest where a few are ±1 and the others 0, and where all are ±1."""
    codec: Codec = build("codec", name, {})
    signs = np.where(np.arange(200) % 3 == 0, -1.0, 1.0).astype(np.float32)
    few = np.where(np.arange(200) % 8 == 2, signs, np.float32(0))
    stayed = np.abs(codec.decode(codec.encode(few), len(few))[few == 0]).max()
    return float(stayed), float(np.abs(codec.decode(codec.encode(signs), len(signs))).max())


def check_combinations(
    config: RunConfig, strategy: Strategy, settings: ZerothSettings, optimizer: CoefficientOptimizer
) -> None:
    """Refuse them, before anything slow is loaded.

    Args:
        config: of a zeroth-order run.
        strategy: of the run.
        settings: of each step.
        optimizer: of the coefficients.

    Raises:
        ConfigError: names both keys, and what to do.
    """
    table = config.zeroth
    assert table is not None
    named = f'zeroth.optimizer.name = "{table.optimizer.name}"'
    estimator = f'zeroth.estimator.name = "{table.estimator.name}"'
    codecs = {f'{key} = "{name}"': _played(name) for key, name in upward(config).items()}
    one_bit = 'zeroth.scalars = "sign"' if table.scalars == "sign" else ""
    one_bit = one_bit or next((told for told, found in codecs.items() if found[_STAYED] > _MOVED), "")
    larger = next((told for told, found in codecs.items() if found[_VOTED] > _ENLARGED), "")
    rules: list[tuple[bool, str, str, str]] = [
        (
            settings.slopes and table.objective != "loss",
            f'zeroth.objective = "{table.objective}" contradicts {estimator}: right and wrong have no slope',
            'zeroth.objective = "loss", or an estimator that asks for values: two-point, forward',
            "change one of them",
        ),
        (
            table.conservative and bool(one_bit),
            f"zeroth.conservative = true contradicts {one_bit}: it cannot say that a client stayed where it was",
            'zeroth.scalars = "value" and a codec of values, e.g. codec.up = "fp16"',
            "change one of them",
        ),
        (
            table.conservative and not optimizer.stays,
            f"zeroth.conservative = true contradicts {named}: it moves on where the scalar is 0, and nobody can stay",
            "an optimizer that stays: sgd, sign or adamu",
            "change one of them",
        ),
        (
            table.scalars == "sign" and bool(larger),
            f'zeroth.scalars = "sign" contradicts {larger}: votes of 1 and -1 come out larger, and would be refused',
            'codecs that leave them, e.g. codec.up = "sign", or zeroth.scalars = "value"',
            "change one of them",
        ),
        (
            table.scalars == "sign" and table.optimizer.name == "sign",
            f'zeroth.scalars = "sign" and {named} say one thing twice: signs are sent already',
            'zeroth.optimizer = { name = "sgd" }, or zeroth.scalars = "value"',
            "keep one of them",
        ),
        (
            isinstance(strategy, SignVote) and not optimizer.stateless,
            f'strategy.name = "sign-vote" contradicts {named}, whose state makes clients\' steps unlike',
            "an optimizer without a state: sgd or sign",
            "change one of them",
        ),
    ]
    for wrong, message, allowed, remedy in rules:
        if wrong:
            raise ConfigError(message, code="config.zeroth-combination", allowed=allowed, remedy=remedy)
