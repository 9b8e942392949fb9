"""Error feedback: what a codec loses in one round is added to the next delta, so that nothing is lost for good.

Seide et al. 2014; Karimireddy et al. 2019, "Error Feedback Fixes SignSGD" (arXiv 1901.09847), Algorithm 2, with
C the codec, Δ_t the delta of round t and e_t the residual:

    p_t = Δ_t + e_t,    Δ̂_t = C(p_t),    e_{t+1} = p_t − Δ̂_t

so Σ_t Δ̂_t = Σ_t Δ_t − e_T: the sum that arrives differs from the true one by the last residual only. It costs no bytes.
"""

from __future__ import annotations

import numpy as np

from fedpeft.codecs.base import Codec, through
from fedpeft.errors import ClientFault
from fedpeft.types import FloatArray


def compensate(codec: Codec, delta: FloatArray, residual: FloatArray) -> tuple[bytes, FloatArray]:
    """Encode a delta together with what earlier rounds still owe.

    Args:
        codec: C.
        delta: Δ_t, shape (d,), fp32.
        residual: e_t, shape (d,), fp32.

    Returns:
        the body, and the new residual e_{t+1}, shape (d,), fp32: zeros where the codec says `owes = False`.

    Raises:
        ClientFault: code `codec.not-finite`; p_t holds NaN or infinity. Encoded, it would poison the residual for good.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        corrected = delta + residual
    wrong = np.flatnonzero(~np.isfinite(corrected))
    if wrong.size:
        raise ClientFault(
            f"{wrong.size} of {corrected.size} values of the delta are not finite, the first is {corrected[wrong[0]]}"
            f" at index {wrong[0]}",
            code="codec.not-finite",
            allowed="finite values",
            remedy="lower local.learning_rate or set local.max_grad_norm",
        )
    if not getattr(codec, "owes", True):
        return codec.encode(corrected), np.zeros_like(corrected)
    body, decoded = through(codec, corrected)
    return body, corrected - decoded
