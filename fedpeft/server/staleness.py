"""How much an update counts that started from an older version than the one it is folded into.

τ is the number of commits between the two: 0 for an update that started from the current version. Of the weighting
functions of Xie et al. 2019, "Asynchronous Federated Optimization" (arXiv 1903.03934), section 5.2, the polynomial one

    s(τ) = 1 / (1 + τ)^a

is the one that FedBuff (Nguyen et al. 2022, arXiv 2106.06639) uses, with a = 1/2; the constant one is s(τ) = 1.
"""

from __future__ import annotations

from fedpeft.config import RoundTable


def staleness_weight(table: RoundTable, age: int) -> float:
    """s(τ): the factor of an update's weight, in (0, 1].

    Args:
        table: `[round]`, with the function and its exponent a.
        age: τ, in commits, >= 0.
    """
    return 1.0 if table.staleness == "constant" else (1.0 + age) ** -table.staleness_exponent
