"""Error feedback: what a codec loses in one round is added to the next delta, so that nothing is lost for good.

Seide et al. 2014; Karimireddy et al. 2019, "Error Feedback Fixes SignSGD" (arXiv 1901.09847), Algorithm 2, with
C the codec, Δ_t the delta of round t and e_t the residual:

    p_t = Δ_t + e_t,    Δ̂_t = C(p_t),    e_{t+1} = p_t − Δ̂_t

so Σ_t Δ̂_t = Σ_t Δ_t − e_T: the sum that arrives differs from the true one by the last residual only. It costs no bytes.
"""

from __future__ import annotations

from fedpeft.codecs.base import Codec
from fedpeft.types import FloatArray


def compensate(codec: Codec, delta: FloatArray, residual: FloatArray) -> tuple[bytes, FloatArray]:
    """Encode a delta together with what earlier rounds still owe.

    Args:
        codec: C.
        delta: Δ_t, shape (d,), finite.
        residual: e_t, shape (d,).

    Returns:
        the body, and the new residual e_{t+1}, shape (d,).
    """
    corrected = delta + residual
    body = codec.encode(corrected)
    return body, corrected - codec.decode(body, corrected.size)
