"""Ternary vectors against the entropy bound: `topk(p)+sign` at five densities, with an arithmetic coder beside it.

Places of density p and as many signs cannot take less than H(p) + p bits a value, if neither tells anything of the
other or of its neighbours. Sizes are of whole bodies: with the scale and the head of the places, nine bytes in all,
next to nothing where there are a million values. The coder beside is the package's `ans` (constriction's, optional),
given the same vector as symbols −1, 0 and 1, whose frequencies travel along.
"""

from __future__ import annotations

from typing import Any

from fedpeft.bench import Figure, Goal

DENSITIES = (0.01, 0.05, 0.1, 0.2, 0.5)
MOST = 1.05  # times the bound
SIZES, RATIOS = "ternary: size at a density", "ternary: size against H(p) + p"


def ternary_figures(delta: Any) -> list[Figure]:
    """Bits a value, and times the bound, of the largest p of `delta`, fp32 of shape (d,), d ≥ 2."""
    import numpy as np

    from fedpeft.codecs.rice import entropy_bits
    from fedpeft.errors import PluginError
    from fedpeft.registry import build

    coder, reason = None, ""
    try:
        coder = build("coder", "ans", {})
    except PluginError:
        reason = 'constriction is not installed: pip install "fedpeft[ans]"'
    sizes, ratios = [], []
    for p in DENSITIES:
        codec = build("codec", f"topk({p:g})+sign", {})
        body = codec.encode(delta)
        symbols = np.sign(codec.decode(body, delta.size)).astype(np.int32)
        density = float(np.count_nonzero(symbols)) / delta.size
        bound = entropy_bits(density) + density
        beside = f"ans at density {p:g}"
        sizes.append(_size(f"H(p) + p at density {p:g}", bound, p, "limit"))
        found = {codec.name: len(body)} | ({beside: len(coder.encode(symbols))} if coder is not None else {})
        for name, count in found.items():
            bits, own = 8 * count / delta.size, name == codec.name
            goals = [Goal(MOST)] if own else []
            about: dict[str, Any] = {"role": "own" if own else "peer", "goals": goals}
            about["note"] = f"{bits:.4f} bits a value, H(p) + p = {bound:.4f}"
            sizes.append(_size(name, bits, p, about["role"]))
            ratios.append(Figure.of(name, bits / bound, "times the bound", group=RATIOS, **about))
        if coder is None:
            sizes.append(Figure.missing(beside, reason, "bits a value", group=SIZES))
            ratios.append(Figure.missing(beside, reason, "times the bound", group=RATIOS))
    return sizes + ratios


def _size(name: str, bits: float, p: float, role: Any) -> Figure:
    return Figure.of(name, bits, "bits a value", group=SIZES, role=role, across=("density", p))
