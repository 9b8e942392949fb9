"""A pruned client's half: see that a mask fits this model, send what is held alone, and send what was scored.

The residual of a codec keeps its whole length: what is owed to a coordinate that this round's mask or turn leaves out
stays owed until it is sent again.
"""

from __future__ import annotations

import numpy as np

from fedpeft.codecs.base import Codec
from fedpeft.codecs.feedback import compensate
from fedpeft.codecs.fp16 import Fp16
from fedpeft.errors import ClientFault, PluginError
from fedpeft.pruning.importance import is_measured
from fedpeft.pruning.mask import unpack
from fedpeft.pruning.scoring import SCORES
from fedpeft.pruning.units import Units
from fedpeft.registry import build
from fedpeft.training import TrainingResult
from fedpeft.types import FloatArray, Held, Plan
from fedpeft.wire.sections import Section


def check_mask(plan: Plan, units: Units | None) -> None:
    """Refuse what a plan asks of a model that is no such thing here.

    Raises:
        ClientFault: a mask of another model, or a way to score that is not installed here.
    """
    if not plan.mask and not plan.importance:
        return
    try:
        if units is None:
            raise ValueError("a mask or a score is asked for, and this run file prunes nobody")
        if plan.mask:
            unpack(plan.mask, units.sizes)
        if plan.importance and not is_measured(build("importance", plan.importance, {})):
            raise ValueError(f'importance "{plan.importance}" measures nothing')
    except (ValueError, PluginError) as error:
        raise ClientFault(
            f"client {plan.client}: {error.message if isinstance(error, PluginError) else error}",
            code="client.mask",
            remedy="use the same run file, model and plug-ins on both sides",
        ) from error


def compensate_held(
    codec: Codec, delta: FloatArray, residual: FloatArray, held: Held | None
) -> tuple[bytes, FloatArray]:
    """Encode the held part of a delta with what is owed to it.

    Args:
        codec: of the update.
        delta: shape (d,).
        residual: shape (d,).
        held: k of its places; None: all.

    Returns:
        the body, of k values, and the new residual, shape (d,).

    Raises:
        ClientFault: as `compensate`.
    """
    if held is None:
        return compensate(codec, delta, residual)
    left = residual.copy()
    body, left[held.places] = compensate(codec, delta[held.places], residual[held.places])
    return body, left


def scores_of(result: TrainingResult, units: Units | None) -> tuple[Section, ...]:
    """The section that brings a client's scores, of the units that it holds; none where it measured nothing."""
    shares = result.sent.get(SCORES)
    if shares is None or units is None:
        return ()
    mask = result.plan.mask
    kept = unpack(mask, units.sizes) if mask else np.ones(units.count, dtype=bool)
    codec = Fp16()
    return (Section(SCORES, codec.name, codec.encode(shares[kept])),)


__all__ = ["check_mask", "compensate_held", "scores_of"]
