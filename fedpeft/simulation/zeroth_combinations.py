"""Keys of `[zeroth]` that are sound one by one and mean nothing together."""

from __future__ import annotations

from fedpeft.config import RunConfig
from fedpeft.errors import ConfigError
from fedpeft.strategies import Strategy
from fedpeft.strategies.sign_vote import SignVote
from fedpeft.training.zeroth.record import ZerothSettings
from fedpeft.zeroth.optimizers import CoefficientOptimizer


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
    codecs = {f'devices.codec = "sign" of class "{device.name}"': device.codec for device in config.devices}
    told = {'zeroth.scalars = "sign"': table.scalars, 'codec.up = "sign"': config.codec.up, **codecs}
    one_bit = next((key for key, value in told.items() if value == "sign"), "")
    rules: list[tuple[bool, str, str, str]] = [
        (
            settings.slopes and table.objective != "loss",
            f'zeroth.objective = "{table.objective}" contradicts {estimator}: right and wrong have no slope',
            'zeroth.objective = "loss", or an estimator that asks for values: two-point, forward',
            "change one of them",
        ),
        (
            table.conservative and bool(one_bit),
            f"zeroth.conservative = true contradicts {one_bit}: one bit cannot say that a client stayed where it was",
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
